// numpy's default generator, PCG64 seeded by a SeedSequence, as far as the encoder's rounding needs it: with it a test rounds
// as Python's clients do. Sources: O'Neill 2014, https://www.pcg-random.org; numpy/random/bit_generator.pyx.

import { createHash } from "node:crypto";
import type { Uniform } from "../src/encoder.ts";

const MASK_32 = (1n << 32n) - 1n;
const MASK_64 = (1n << 64n) - 1n;
const MASK_128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;
const ROUNDING = 3n; // orchestrator.seeds.Purpose

/** The draws with which Python's client rounds its update of a round. */
export function roundingOf(seed: string, roundNum: number, clientId: string): Pcg64 {
  const digest = createHash("sha256").update(clientId, "utf8").digest();
  return new Pcg64([BigInt(seed), ROUNDING, BigInt(roundNum), digest.readBigUInt64LE(0)]);
}

export class Pcg64 implements Uniform {
  private state = 0n;
  private readonly increment: bigint;
  private half: number | null = null; // the upper half of a draw whose lower half was given out

  constructor(entropy: readonly bigint[]) {
    const words = generated(entropy.flatMap(words32), 8);
    const quad = (place: number) => BigInt(words[2 * place]!) | (BigInt(words[2 * place + 1]!) << 32n);
    this.increment = (((quad(2) << 64n) | quad(3)) << 1n & MASK_128) | 1n;
    this.advance();
    this.state = (this.state + ((quad(0) << 64n) | quad(1))) & MASK_128;
    this.advance();
  }

  float32s(count: number): Float32Array {
    return Float32Array.from({ length: count }, () => (this.uint32() >>> 8) * 2 ** -24);
  }

  float64(): number {
    return Number(this.uint64() >> 11n) * 2 ** -53;
  }

  private advance(): void {
    this.state = (this.state * MULTIPLIER + this.increment) & MASK_128;
  }

  private uint64(): bigint {
    this.advance();
    const folded = ((this.state >> 64n) ^ this.state) & MASK_64;
    const turn = this.state >> 122n;
    return ((folded >> turn) | (folded << ((64n - turn) & 63n))) & MASK_64;
  }

  private uint32(): number {
    const { half } = this;
    if (half !== null) {
      this.half = null;
      return half;
    }
    const whole = this.uint64();
    this.half = Number(whole >> 32n);
    return Number(whole & MASK_32);
  }
}

function words32(value: bigint): number[] {
  const found: number[] = [];
  for (let left = value; left > 0n || found.length === 0; left >>= 32n) found.push(Number(left & MASK_32));
  return found;
}

/** numpy's SeedSequence: mixes the entropy into a pool of four words, and draws words from it. */
function generated(entropy: readonly number[], count: number): number[] {
  let hash = 0x43b0d7e5;
  const hashed = (value: number) => {
    const mixed = (value ^ hash) >>> 0;
    hash = Math.imul(hash, 0x931e8875) >>> 0;
    const product = Math.imul(mixed, hash) >>> 0;
    return (product ^ (product >>> 16)) >>> 0;
  };
  const mixed = (one: number, other: number) => {
    const found = (Math.imul(0xca01f9dd, one) - Math.imul(0x4973f715, other)) >>> 0;
    return (found ^ (found >>> 16)) >>> 0;
  };
  const pool = [0, 1, 2, 3].map((place) => hashed(entropy[place] ?? 0));
  for (let from = 0; from < 4; from += 1) {
    for (let to = 0; to < 4; to += 1) if (from !== to) pool[to] = mixed(pool[to]!, hashed(pool[from]!));
  }
  for (const word of entropy.slice(4)) {
    for (let to = 0; to < 4; to += 1) pool[to] = mixed(pool[to]!, hashed(word));
  }
  let out = 0x8b51f9dd;
  return Array.from({ length: count }, (_, place) => {
    const value = (pool[place % 4]! ^ out) >>> 0;
    out = Math.imul(out, 0x58f38ded) >>> 0;
    const product = Math.imul(value, out) >>> 0;
    return (product ^ (product >>> 16)) >>> 0;
  });
}
