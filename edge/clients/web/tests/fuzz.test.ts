import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import participant from "../../../conformance/participant.json";
import secagg from "../../../conformance/secagg.json";
import split from "../../../conformance/split.json";
import { WireError } from "../src/errors.ts";
import { decodeToClient } from "../src/messages.ts";
import { fromHex, hex, type Bytes } from "../src/primitives.ts";
import * as messages from "../src/secagg_messages.ts";
import { ROUND_TERMS } from "../src/split_messages.ts";

const TRIES = Number(process.env["FEDKEYS_FUZZ"] ?? 2000);
const session = secagg["complete graph"].clients[0]!.messages;
const TYPES = {
  Invitation: [messages.INVITATION, session[0]!.wire],
  Roster: [messages.ROSTER, session[1]!.wire],
  Delivery: [messages.DELIVERY, session[2]!.wire],
  Survivors: [messages.SURVIVORS, session[3]!.wire],
  UnmaskRequest: [messages.UNMASK_REQUEST, session[4]!.wire],
  RoundTerms: [ROUND_TERMS, split.uploads[0]!.terms],
} as const;

/** Returns the bytes with up to three changed, cut or lengthened now and then: where it matters most, at the beginning. */
function garbled(octets: Bytes): Bytes {
  const draws = randomBytes(12);
  const changed = octets.slice();
  for (let i = 0; i < 1 + (draws[0]! % 3); i += 1) {
    const at = draws[1]! < 128 ? draws[2 + i]! % 40 : draws.readUInt16LE(2 + 2 * i);
    changed[at % changed.length] = draws[8 + i]!;
  }
  if (draws[11]! < 40) return changed.slice(0, draws.readUInt16LE(2) % (changed.length + 1));
  return draws[11]! < 50 ? Uint8Array.from([...changed, draws[3]!]) : changed;
}

for (const [name, [type, wire]] of Object.entries(TYPES)) {
  test(`${TRIES} garbled bytes of ${name} are WireError, or a message that is written as it was read`, () => {
    const honest = fromHex(wire);
    let numRead = 0;
    for (let i = 0; i < TRIES; i += 1) {
      const octets = garbled(honest);
      try {
        const found = type.decode(octets, 1 << 20);
        const again = (type.encode as (values: unknown) => Bytes)(found);
        assert.equal(hex((type.encode as (values: unknown) => Bytes)(type.decode(again, 1 << 20))), hex(again));
        numRead += 1;
      } catch (error) {
        assert.ok(error instanceof WireError, `${(error as Error).stack}\n${hex(octets)}`);
      }
    }
    assert.ok(numRead > 0 && numRead < TRIES, `${numRead} were read`);
  });
}

/** The server's messages around the protocol, by their types. */
const AROUND = new Map<string, Bytes[]>();
for (const octets of participant.conversation.map(({ message }) => fromHex(message))) {
  const { kind } = decodeToClient(octets);
  AROUND.set(kind, [...(AROUND.get(kind) ?? []), octets]);
}

for (const [kind, honest] of AROUND) {
  test(`${TRIES} garbled bytes of a ${kind} are WireError, or a message`, () => {
    let numRead = 0;
    for (let i = 0; i < TRIES; i += 1) {
      const octets = garbled(honest[i % honest.length]!);
      try {
        decodeToClient(octets);
        numRead += 1;
      } catch (error) {
        assert.ok(error instanceof WireError, `${(error as Error).stack}\n${hex(octets)}`);
      }
    }
    assert.ok(numRead > 0 && numRead < TRIES, `${numRead} were read`);
  });
}

test("each type that a server sends is garbled", () => {
  assert.deepEqual([...AROUND.keys()].sort(), ["goodbye", "plan", "setup", "step"]);
});

test("a list that claims four billion items ends at once", () => {
  const tag = Buffer.from("secagg/1/Roster").toString("hex");
  const whole = fromHex(`94af${tag}c420${"00".repeat(32)}00ddffffffff`);
  const started = performance.now();
  assert.throws(() => messages.ROSTER.decode(whole, 1 << 20), WireError);
  assert.ok(performance.now() - started < 1000);
});
