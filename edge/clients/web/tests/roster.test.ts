import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/roster.json";
import { checkedOperator, offerOf } from "../src/enrol.ts";
import { KeysError } from "../src/errors.ts";
import { Fault } from "../src/faults.ts";
import { fromHex, hex } from "../src/primitives.ts";
import { admit, decodeRoster, fingerprintOf, operatorOf, seenOf, signedBytes, type Seen, type SeenRosters } from "../src/roster.ts";
import { refused } from "./vectors.ts";

const { client_id: CLIENT, operator: SIGNER } = vectors;
const OPERATOR = operatorOf(SIGNER.key, SIGNER.roster_id)!;
const KEY = fromHex(vectors.public_key);

/** Rosters that were seen, in memory. */
function book(seen: Seen | null): SeenRosters & { readonly kept: Map<string, Seen> } {
  const kept = new Map<string, Seen>(seen ? [[SIGNER.fingerprint, seen]] : []);
  return { kept, of: async (name) => kept.get(name), see: async (name, found) => void kept.set(name, found) };
}

test("the operator's fingerprint", async () => {
  assert.equal(await fingerprintOf(OPERATOR), SIGNER.fingerprint);
  for (const [key, name] of [["01" + "00".repeat(31), SIGNER.roster_id], [SIGNER.key, ""], [5, SIGNER.roster_id], [SIGNER.key, undefined]]) {
    assert.equal(operatorOf(key, name), null);
  }
});

test("what the operator signs, byte for byte", async () => {
  for (const { content, signed, digest } of Object.values(vectors.rosters)) {
    const roster = await decodeRoster(content);
    assert.equal(hex(signedBytes(roster)), signed);
    assert.equal((await seenOf(roster)).digest, digest);
  }
});

test("a roster of the operator is taken, and remembered", async () => {
  for (const { content, seen } of vectors.taken) {
    const seenRosters = book(seen);
    const roster = await decodeRoster(content);
    await admit(roster, OPERATOR, CLIENT, KEY, seenRosters);
    assert.deepEqual(seenRosters.kept.get(SIGNER.fingerprint), await seenOf(roster));
  }
});

test("the rosters that a client refuses", async (context) => {
  for (const { lie, content, seen, error, text } of vectors.refusals) {
    await context.test(lie, async () => {
      const seenRosters = book(seen);
      const roster = await decodeRoster(content);
      await refused(() => admit(roster, OPERATOR, CLIENT, KEY, seenRosters), error!, text!);
      // Who was struck off remembers that, and takes no older roster; nothing else is remembered.
      if (error !== "NotOnRoster") assert.deepEqual(seenRosters.kept.get(SIGNER.fingerprint) ?? null, seen);
      else assert.equal(seenRosters.kept.get(SIGNER.fingerprint)?.number, roster.number);
    });
  }
});

test("what is no roster", async (context) => {
  const texts = { ...vectors.damaged, nothing: "", "no JSON": "{", "a list": "[]", "no object": "null", deep: "[".repeat(100_000) };
  for (const [what, text] of Object.entries(texts)) {
    await context.test(what, () => assert.rejects(() => decodeRoster(text), KeysError));
  }
});

test("a roster of before holds the clients alone", async () => {
  const key = "11".repeat(32);
  const roster = await decodeRoster(`{"schema": 1, "clients": {"anna maria": "${key}"}}`);
  assert.deepEqual([[...roster.clients.keys()], roster.number, roster.signature.length], [["anna maria"], 0, 0]);
});

test("a roster that can't be kept is not taken", async () => {
  const roster = await decodeRoster(vectors.taken[0]!.content);
  const full: SeenRosters = { of: async () => undefined, see: () => Promise.reject(new Error("full")) };
  await assert.rejects(admit(roster, OPERATOR, CLIENT, KEY, full), /full/);
});

test("a server that answers an enrolment names the operator of the code's address, or the browser is not enrolled", async () => {
  const { key, roster_id, fingerprint } = SIGNER;
  const said = { operator: key, roster_id };
  assert.deepEqual(await checkedOperator(said, fingerprint), OPERATOR);
  assert.deepEqual(await checkedOperator(said, ""), OPERATOR); // a code that was typed comes without
  assert.equal(await checkedOperator({}, ""), undefined); // a server of before
  const other = { operator: vectors.public_key, roster_id };
  const smallOrder = { operator: "01" + "00".repeat(31), roster_id };
  for (const lie of [{}, other, { ...said, roster_id: "11".repeat(16) }, { operator: key }, { roster_id }, smallOrder]) {
    await assert.rejects(checkedOperator(lie, fingerprint), (error: unknown) => error instanceof Fault && error.code === "enrolOperator");
  }
  for (const lie of [smallOrder, { operator: key }, { operator: null, roster_id }]) {
    await assert.rejects(checkedOperator(lie, ""), Fault); // it names one that nobody can be
  }
  for (const cut of [fingerprint.slice(0, 31), fingerprint + "0"]) await assert.rejects(checkedOperator(said, cut), Fault);
});

test("what stands in the operator's address, and what a person types", () => {
  assert.deepEqual(offerOf(" aaaa-bbbb-cccc \n"), { code: "AAAA-BBBB-CCCC", fingerprint: "" });
  const { fingerprint } = SIGNER;
  assert.deepEqual(offerOf(`AAAA-BBBB-CCCC&operator=${fingerprint}`), { code: "AAAA-BBBB-CCCC", fingerprint });
});
