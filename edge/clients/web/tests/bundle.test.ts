import assert from "node:assert/strict";
import { test } from "node:test";
import { signerOf } from "../src/bundle.ts";
import { Fault } from "../src/faults.ts";
import { hex, sign } from "../src/primitives.ts";
import { distribution } from "../src/quantiles.ts";

const MANIFEST = new TextEncoder().encode('{"schema": 1}\n');

async function signed(over: Uint8Array<ArrayBuffer>): Promise<{ key: string; file: Record<string, string> }> {
  const pair = (await crypto.subtle.generateKey({ name: "Ed25519" }, true, ["sign", "verify"])) as CryptoKeyPair;
  const key = hex(new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)));
  const signature = hex(await sign(pair.privateKey, over));
  return { key, file: { algorithm: "Ed25519", signs: "manifest.json", public_key: key, signature } };
}

const bytes = (file: unknown) => new TextEncoder().encode(JSON.stringify(file));

test("a signature names its key", async () => {
  const { key, file } = await signed(MANIFEST);
  assert.equal(await signerOf(MANIFEST, bytes(file)), key);
  assert.equal(await signerOf(MANIFEST, null), null);
});

test("a signature over other bytes, of another kind or cut off is refused", async () => {
  const { file } = await signed(MANIFEST);
  const other = new TextEncoder().encode('{"schema": 2}\n');
  const bad = [
    { ...file, algorithm: "none" },
    { ...file, signs: "files" },
    { ...file, signature: file["signature"]?.slice(2) },
    { ...file, public_key: "zz".repeat(32) },
    {},
  ];
  await assert.rejects(signerOf(other, bytes(file)), Fault);
  for (const each of bad) await assert.rejects(signerOf(MANIFEST, bytes(each)), Fault);
  await assert.rejects(signerOf(MANIFEST, new TextEncoder().encode("{")), Fault);
});

test("quantiles are by nearest rank", () => {
  const times = Array.from({ length: 10 }, (_, index) => 10 - index);
  assert.deepEqual(distribution(times), { min: 1, p50: 5, p90: 9, p99: 10, n: 10 });
});
