// The degree and threshold that a cohort needs, as orchestrator/secagg/graph.py: a client computes them itself, so that
// no server can talk it into laxer ones.

import { WeakParameters } from "./errors.ts";
import schema from "../../../conformance/settings.json";

/** What this client assumes and insists on; see Policy in orchestrator/secagg/graph.py for each field. */
export interface Policy {
  readonly corruptShare: number;
  readonly dropoutShare: number;
  readonly securityBits: number;
  readonly correctnessBits: number;
  readonly semiMalicious: boolean;
  readonly completeUpTo: number;
  readonly minSurvivors: number;
  readonly maxClients: number;
}

const sum = schema.sections.aggregation;
export const DEFAULT_POLICY: Policy = {
  corruptShare: sum.corrupt_share.default,
  dropoutShare: sum.dropout_share.default,
  securityBits: 40,
  correctnessBits: 20,
  semiMalicious: true,
  completeUpTo: sum.complete_up_to.default,
  minSurvivors: sum.min_survivors.default,
  maxClients: 1 << 20,
};

export interface GraphParameters {
  readonly numClients: number;
  readonly degree: number;
  readonly threshold: number;
}

/** Whether all clients are each other's neighbours. */
export const isComplete = (graph: GraphParameters): boolean => graph.degree === graph.numClients - 1;

/** Returns the smallest degree and threshold with which a cohort satisfies the policy; throws WeakParameters if none do. */
export function graphParameters(numClients: number, policy: Policy): GraphParameters {
  if (numClients > policy.completeUpTo) {
    for (let degree = 2; degree < numClients - 1; degree += 2) {
      const threshold = regularThreshold(numClients, degree, policy);
      if (threshold !== null) return { numClients, degree, threshold };
    }
  }
  const degree = numClients - 1;
  const numCorrupt = mostCorruptOf(numClients, policy.corruptShare);
  const threshold = thresholdOf(degree, numCorrupt, policy);
  const numDropped = Math.floor(policy.dropoutShare * numClients + 1e-9);
  if (threshold > degree - numDropped) {
    throw new WeakParameters(
      `a cohort of ${numClients} with ${numCorrupt} corrupt clients and ${numDropped} drop-outs needs ` +
        `${threshold} of ${degree} neighbours left: select more clients or assume smaller shares`,
    );
  }
  return { numClients, degree, threshold };
}

/** Returns how many of some clients may collude with the server, rounded up: the safe side. */
const mostCorruptOf = (numClients: number, corruptShare: number): number => Math.ceil(corruptShare * numClients - 1e-9);

/** Returns the fewest vectors of a sum that holds two honest ones, whomever of those enrolled the server invites. */
export const fewestSurvivors = (numEnrolled: number, corruptShare: number): number =>
  Math.max(mostCorruptOf(numEnrolled, corruptShare) + 2, 3);

/** Returns the least threshold; at least 2, or each share would be the secret. */
function thresholdOf(degree: number, numCorruptNeighbours: number, policy: Policy): number {
  const least = policy.semiMalicious ? Math.floor((degree + numCorruptNeighbours) / 2) + 1 : numCorruptNeighbours + 1;
  return Math.max(least, 2);
}

/** Returns the least threshold for a random regular graph of this degree, or null if there is none (Bell et al. 2020). */
function regularThreshold(numClients: number, degree: number, policy: Policy): number | null {
  const numCorrupt = Math.floor((policy.corruptShare + 1e-14) * numClients);
  const numDropped = Math.floor((policy.dropoutShare + 1e-14) * numClients);
  const logRisk = -(policy.securityBits + 1) * Math.LN2; // two bad events share the security bits
  if (logDisconnected(numClients, degree, numCorrupt + numDropped) >= logRisk) return null;
  const mostCorrupt = upperQuantile(numClients, numCorrupt, degree, logRisk - Math.log(numClients));
  const logFailure = -policy.correctnessBits * Math.LN2 - Math.log(numClients);
  const mostDropped = upperQuantile(numClients, numDropped, degree, logFailure);
  const threshold = thresholdOf(degree, mostCorrupt, policy);
  return threshold <= degree - mostDropped ? threshold : null;
}

/** Returns the log of a bound on the probability that the honest survivors' graph falls apart. */
function logDisconnected(numClients: number, degree: number, numGone: number): number {
  if (degree > numGone) return -Infinity;
  return (
    Math.log((numClients * (numClients - degree - 1)) / 2) +
    logFactorial(numGone) +
    logFactorial(numClients - degree) -
    logFactorial(numClients) -
    logFactorial(numGone - degree)
  );
}

/** Returns the least x with P[X > x] <= exp(logProbability); X counts the marked ones among those drawn. */
function upperQuantile(population: number, numMarked: number, numDrawn: number, logProbability: number): number {
  const limit = Math.exp(logProbability);
  const smallest = Math.max(0, numMarked + numDrawn - population);
  let tail = 0; // P[X >= x]
  for (let x = Math.min(numMarked, numDrawn); x > smallest; x -= 1) {
    const logMass = logChoose(numMarked, x) + logChoose(population - numMarked, numDrawn - x);
    tail += Math.exp(logMass - logChoose(population, numDrawn));
    if (tail > limit) return x;
  }
  return smallest;
}

const logChoose = (n: number, k: number): number => logFactorial(n) - logFactorial(k) - logFactorial(n - k);

/** Returns ln(n!): from the product where it is exact, else by Stirling's series, whose next term is below 1e-17. */
function logFactorial(n: number): number {
  if (n < 18) {
    let product = 1;
    for (let factor = 2; factor <= n; factor += 1) product *= factor;
    return Math.log(product);
  }
  const square = n * n;
  const series = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / square) / square) / square) / square) / n;
  return (n + 0.5) * Math.log(n) - n + 0.5 * Math.log(2 * Math.PI) + series;
}
