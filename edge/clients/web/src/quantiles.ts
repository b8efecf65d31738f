/** Quantiles of times, in milliseconds. */

export interface Distribution {
  min: number;
  p50: number;
  p90: number;
  p99: number;
  n: number;
}

/** Returns the quantiles by nearest rank. */
export function distribution(times: readonly number[]): Distribution {
  const sorted = [...times].sort((one, other) => one - other);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  return { min: sorted[0] ?? Number.NaN, p50: at(0.5), p90: at(0.9), p99: at(0.99), n: sorted.length };
}
