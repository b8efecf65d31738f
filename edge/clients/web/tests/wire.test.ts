import assert from "node:assert/strict";
import { test } from "node:test";
import { WireError } from "../src/errors.ts";
import { decodeToClient, GOODBYE, PLAN, STEP } from "../src/messages.ts";
import { Malformed, Reader, Writer } from "../src/msgpack.ts";
import type { Bytes } from "../src/primitives.ts";
import { CONSENT, SURVIVORS } from "../src/secagg_messages.ts";
import { exactly, listOf, Message, text, uint, withFallback } from "../src/wire.ts";

const none = new Uint8Array(0);

/** Returns a Plan of so many of its fields. */
function planOf(count: number): Bytes {
  const writer = new Writer();
  writer.arrayLength(1 + count);
  writer.text(PLAN.tag);
  const fields = [() => writer.uint(7), () => writer.float(0.5), () => writer.bytes(none), () => writer.bytes(none), () => writer.uint(1)];
  for (const write of fields.slice(0, count)) write();
  return writer.finish();
}

test("a message has all its fields, but that a last one with a fallback may be left out", () => {
  for (const count of [3, 4]) {
    assert.deepEqual(PLAN.decode(planOf(count), 100), { roundNum: 7, learningRate: 0.5, weights: none, terms: none });
  }
  for (const count of [0, 1, 2, 5]) assert.throws(() => PLAN.decode(planOf(count), 100), WireError);
});

test("texts, integers and bytes have the lengths that their types say", () => {
  const step = (stage: string) => STEP.encode({ roundNum: 1, stage, body: none });
  const goodbye = (reason: string) => GOODBYE.encode({ reason });
  for (const good of [step("s"), step("s".repeat(32)), goodbye("\u{1f600}".repeat(300)), goodbye("")]) assert.ok(decodeToClient(good));
  for (const bad of [step(""), step("s".repeat(33)), goodbye("a".repeat(301)), goodbye("\u{1f600}".repeat(301))]) {
    assert.throws(() => decodeToClient(bad), WireError);
  }
  const consent = (sender: number, numBytes: number) =>
    CONSENT.encode({ session: new Uint8Array(32), sender, signature: new Uint8Array(numBytes) });
  assert.ok(CONSENT.decode(consent((1 << 20) - 1, 64), 1000));
  for (const bad of [consent(1 << 20, 64), consent(1, 63), consent(1, 65)]) assert.throws(() => CONSENT.decode(bad, 1000), WireError);
  const survivors = (numBytes: number) => SURVIVORS.encode({ session: new Uint8Array(32), recipient: 0, alive: new Uint8Array(numBytes) });
  assert.ok(SURVIVORS.decode(survivors(1 << 17), 1 << 20));
  assert.throws(() => SURVIVORS.decode(survivors((1 << 17) + 1), 1 << 20), WireError);
});

test("a list has at most as many items as its type says, and a message as many bytes as the caller allows", () => {
  const type = new Message("test/1/List", { items: listOf(uint(3, 9), 2), note: withFallback(text(), "") });
  const whole = type.encode({ items: [3, 9], note: "" });
  assert.deepEqual(type.decode(whole, whole.length), { items: [3, 9], note: "" });
  assert.throws(() => type.decode(whole, whole.length - 1), /^WireError: List: 17 bytes, at most 16 allowed$|List: \d+ bytes, at most \d+ allowed/);
  for (const items of [[3, 9, 4], [2], [10]]) assert.throws(() => type.decode(type.encode({ items, note: "" }), 100), WireError);
});

test("a field of exactly so many bytes", () => {
  for (const [count, holds] of [[1, false], [2, true], [3, false]] as const) {
    const writer = new Writer();
    writer.bytes(new Uint8Array(count));
    const read = () => exactly(2).read(new Reader(writer.finish()));
    if (holds) assert.equal(read().length, 2);
    else assert.throws(read, Malformed);
  }
});
