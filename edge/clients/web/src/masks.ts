// Adds masks to a vector: a mask is the AES-128-CTR key stream of a 32-byte seed, half of which is the key and half the
// first counter block. As orchestrator/masks.py. Words are little-endian, as every browser's machine is.

import type { Bytes } from "./primitives.ts";

export interface Mask {
  readonly seed: Bytes;
  readonly sign: 1 | -1;
}

export const SEED_BYTES = 32;
const BLOCK_BYTES = 16;
const CHUNK_BYTES = 1 << 18; // of key stream at a time, whole blocks
const ZEROS = new Uint8Array(CHUNK_BYTES);

/** Adds the masks to the vector in place, modulo 2**32. */
export async function addMasks(vector: Uint32Array, masks: Iterable<Mask>): Promise<void> {
  for (const mask of masks) await addMask(vector, mask);
}

async function addMask(vector: Uint32Array, { seed, sign }: Mask): Promise<void> {
  if (seed.length !== SEED_BYTES) throw new RangeError(`seed must be ${SEED_BYTES} bytes, got ${seed.length} bytes`);
  const key = await globalThis.crypto.subtle.importKey("raw", seed.slice(0, BLOCK_BYTES), "AES-CTR", false, ["encrypt"]);
  const first = seed.slice(BLOCK_BYTES);
  const size = vector.byteLength;
  const stream = (at: number) => {
    const counter = blocksLater(first, at / BLOCK_BYTES);
    const zeros = ZEROS.subarray(0, Math.min(CHUNK_BYTES, size - at));
    return globalThis.crypto.subtle.encrypt({ name: "AES-CTR", counter, length: 128 }, key, zeros);
  };
  for (let at = 0; at < size; at += CHUNK_BYTES) {
    const words = new Uint32Array(await stream(at));
    const piece = vector.subarray(at / 4, at / 4 + words.length);
    if (sign > 0) for (let i = 0; i < words.length; i += 1) piece[i]! += words[i]!;
    else for (let i = 0; i < words.length; i += 1) piece[i]! -= words[i]!;
  }
}

/** Returns the counter block that many blocks later, modulo 2**128. */
function blocksLater(first: Bytes, count: number): Bytes {
  const later = first.slice();
  let carry = count;
  for (let place = later.length - 1; place >= 0 && carry > 0; place -= 1) {
    carry += later[place]!;
    later[place] = carry & 255;
    carry = Math.floor(carry / 256);
  }
  return later;
}
