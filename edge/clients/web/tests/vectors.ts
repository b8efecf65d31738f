// What several tests need to run the conformance vectors.

import assert from "node:assert/strict";
import { FedkeysError } from "../src/errors.ts";
import type { Policy } from "../src/graph.ts";
import { fromHex, type Bytes, type Random } from "../src/primitives.ts";

/** The fields of a policy as the vectors hold them. */
export interface PolicyFields {
  corrupt_share: number;
  dropout_share: number;
  security_bits: number;
  correctness_bits: number;
  semi_malicious: boolean;
  complete_up_to: number;
  min_survivors: number;
}

export const policyOf = (fields: PolicyFields): Policy => ({
  corruptShare: fields.corrupt_share,
  dropoutShare: fields.dropout_share,
  securityBits: fields.security_bits,
  correctnessBits: fields.correctness_bits,
  semiMalicious: fields.semi_malicious,
  completeUpTo: fields.complete_up_to,
  minSurvivors: fields.min_survivors,
  maxClients: 1 << 20,
});

/** Randomness that gives the recorded draws, in order; they must have the lengths that are asked for. */
export function replayed(draws: readonly string[]): Random {
  const left = draws.map(fromHex);
  return (count) => {
    const next = left.shift();
    assert.equal(next?.length, count, "a draw of another length than recorded, or one more");
    return next as Bytes;
  };
}

/** Returns the Ed25519 private key of 32 bytes. */
export function identityKey(raw: string): Promise<CryptoKey> {
  const pkcs8 = fromHex(`302e020100300506032b657004220420${raw}`); // RFC 8410
  return globalThis.crypto.subtle.importKey("pkcs8", pkcs8, { name: "Ed25519" }, false, ["sign"]);
}

/** Passes if the work is refused by this name, in these words. */
export async function refused(work: () => Promise<unknown>, name: string, text?: string | RegExp): Promise<void> {
  await assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof FedkeysError, String(error));
    assert.equal(error.name, name, error.message);
    if (typeof text === "string") assert.equal(error.message, text);
    else if (text) assert.match(error.message, text);
    return true;
  });
}
