// Shamir's secret sharing of 32-byte secrets over the prime field of 2**256 + 297, as orchestrator/secagg/shamir.py.
// A client deals shares and hands out those it holds; only the server combines them.

import { fromHex, hex, type Bytes, type Random } from "./primitives.ts";

const PRIME = (1n << 256n) + 297n;
export const SECRET_BYTES = 32;
export const SHARE_BYTES = 33;

/** Returns a share of 33 bytes for each point, in order; any `threshold` of them give the secret back. */
export function split(secret: Bytes, threshold: number, points: readonly number[], random: Random): Bytes[] {
  if (secret.length !== SECRET_BYTES) throw new RangeError(`secret must be ${SECRET_BYTES} bytes`);
  if (threshold < 2 || threshold > points.length) throw new RangeError(`threshold must lie in 2..${points.length}`);
  if (new Set(points).size !== points.length || points.some((point) => point < 1)) {
    throw new RangeError("points must be distinct and positive: the polynomial's value at 0 is the secret");
  }
  const coefficients = [toInteger(secret)];
  while (coefficients.length < threshold) coefficients.push(randomBelowPrime(random));
  return evaluate(coefficients, points);
}

/** Returns a polynomial's values at the points, each as 33 bytes; its constant term is the first coefficient. */
export function evaluate(coefficients: readonly bigint[], points: readonly number[]): Bytes[] {
  const highestFirst = [...coefficients].reverse();
  return points.map((point) => {
    const x = BigInt(point);
    const value = highestFirst.reduce((sum, coefficient) => (sum * x + coefficient) % PRIME, 0n); // Horner's rule
    return fromHex(value.toString(16).padStart(2 * SHARE_BYTES, "0"));
  });
}

const toInteger = (octets: Bytes): bigint => BigInt(`0x${hex(octets)}`);

/** Draws 257 bits until they are below the prime: once in nearly two draws. */
function randomBelowPrime(random: Random): bigint {
  for (;;) {
    const drawn = random(SHARE_BYTES);
    drawn[0]! &= 1;
    const value = toInteger(drawn);
    if (value < PRIME) return value;
  }
}
