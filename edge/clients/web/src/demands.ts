// What a client insists on, whatever the server says, as orchestrator/network/demands.py. A browser takes part in secure
// aggregation, or in the split sum where the person chose that.

import schema from "../../../conformance/settings.json";
import { DemandRefused } from "./errors.ts";
import { DEFAULT_POLICY, fewestSurvivors, type Policy } from "./graph.ts";
import { general } from "./numbers.ts";
import { numWeights, type ModelSize, type RunSettings, type Settings } from "./settings.ts";

export const STAGES = ["advertise", "shares", "upload", "consistency", "unmask"] as const;
type Stage = (typeof STAGES)[number];

/** The sums that a browser can take part in. In the split sum the answer to the plan is all. */
export const AGGREGATORS = ["secagg", "split"] as const;
export type Aggregator = (typeof AGGREGATORS)[number];

const OPERATIONS_PER_S = 1e9; // multiplications and additions in float32; one core of a slow phone
const FLOAT_BYTES = 4;
const COPIES_OF_WEIGHTS = 8; // as received, as trained, gradient, update, its encoding, masked, and two in between
const COPIES_OF_LOGITS = 3;
const ARRAYS_OF_TEXT = 3; // tokens, targets, mask

/** A client's own rules; the defaults are far beyond what a run on phones asks for. See Demands in Python for each. */
export interface Demands {
  readonly policy: Policy; // of secure aggregation; its minSurvivors holds for every sum
  readonly aggregator: Aggregator; // the only kind of sum that it takes part in
  readonly maxCohort: number;
  readonly maxEpochs: number;
  readonly maxSentences: number;
  readonly maxBatchTokens: number;
  readonly maxWeights: number;
  readonly maxMinutes: number;
  readonly maxMemoryMib: number;
  readonly maxMagnitude: number;
  readonly maxLearningRate: number;
}

const LIMITS: Omit<Demands, "policy" | "aggregator"> = {
  maxCohort: 10_000,
  maxEpochs: 100,
  maxSentences: 100_000,
  maxBatchTokens: 1_000_000,
  maxWeights: 1 << 26,
  maxMinutes: 30,
  maxMemoryMib: 4096,
  maxMagnitude: 1e3,
  maxLearningRate: 10,
};

/** Returns the demands of a client on a roster of so many, whose sums must hold two honest vectors whoever is invited. */
export function demandsFor(numEnrolled: number, aggregator: Aggregator = "secagg"): Demands {
  const minSurvivors = fewestSurvivors(numEnrolled, DEFAULT_POLICY.corruptShare);
  return { ...LIMITS, aggregator, policy: { ...DEFAULT_POLICY, minSurvivors } };
}

/** Returns the minutes that a round's training takes at most, at a billion operations a second. */
function trainingMinutes(settings: Settings, size: ModelSize): number {
  const numWords = numSentences(settings) * settings.data.max_words;
  return (6 * numWeights(size) * numWords) / OPERATIONS_PER_S / 60;
}

/** Returns the bytes of memory that a round's training takes at most. */
function trainingBytes(settings: Settings, size: ModelSize): number {
  const batchWords = settings.client.batch_size * settings.data.max_words;
  const weights = COPIES_OF_WEIGHTS * (numWeights(size) + size.numCells * batchWords);
  const logits = COPIES_OF_LOGITS * batchWords * size.vocabularySize;
  return FLOAT_BYTES * (weights + logits + ARRAYS_OF_TEXT * numSentences(settings) * settings.data.max_words);
}

const numSentences = ({ client, data }: Settings): number =>
  Math.min(client.max_sentences, data.max_sentences_train) * client.epochs;

/** Throws DemandRefused if the run asks for another sum or for more work than the client does. */
export function checkRun(demands: Demands, { settings, size }: RunSettings, numHelpers = 0): void {
  const { aggregator, helpers } = settings.aggregation;
  if (aggregator !== demands.aggregator) {
    throw new DemandRefused(
      `the server runs the sum '${aggregator}', this client takes part in '${demands.aggregator}' only: ` +
        "agree on it, then name it by --aggregator",
    );
  }
  if (aggregator === "split" && helpers !== numHelpers) {
    throw new DemandRefused(
      `the server's run has ${helpers} helpers, this client's helpers.pub names ${numHelpers}: agree on them`,
    );
  }
  if (settings.data.tokeniser !== schema.tokeniser) {
    throw new DemandRefused(
      `the run's words are those of tokeniser ${settings.data.tokeniser}, this client reads text by ` +
        `${schema.tokeniser}: take part in a run that was begun since`,
    );
  }
  if (settings.data.segmenter !== "none") {
    throw new DemandRefused(`the run's words can't be cut here: segmenter '${settings.data.segmenter}' is not in this client`);
  }
  if (settings.model.kind !== "cifg") {
    throw new DemandRefused(`the run's network can't be trained here: model.kind '${settings.model.kind}' is not in this client`);
  }
  const asked: [string, number, number][] = [
    ["clients in a round", settings.rounds.cohort_size, demands.maxCohort],
    ["epochs", settings.client.epochs, demands.maxEpochs],
    ["sentences to train on in a round", numSentences(settings), demands.maxSentences],
    ["tokens in a batch", settings.client.batch_size * settings.data.max_words, demands.maxBatchTokens],
    ["weights in the model", numWeights(size), demands.maxWeights],
    ["minutes of training in a round", Math.ceil(trainingMinutes(settings, size)), demands.maxMinutes],
    ["MiB of memory", Math.ceil(trainingBytes(settings, size) / 2 ** 20), demands.maxMemoryMib],
  ];
  for (const [what, figure, most] of asked) {
    if (figure > most) throw new DemandRefused(`the server asks for up to ${figure} ${what}, this client allows ${general(most)}`);
  }
}

/** Throws DemandRefused if the run has no such round: a client's work ends with the run's last round. */
export function checkRound(roundNum: number, { settings }: RunSettings): void {
  const { count } = settings.rounds;
  if (roundNum < 1 || roundNum > count) throw new DemandRefused(`the server asks for round ${roundNum} of a run of ${count}`);
}

/** Throws DemandRefused if the rate or a weight is not finite or beyond the client's limits. */
export function checkPlan(demands: Demands, roundNum: number, rate: number, weights: readonly Float32Array[]): void {
  if (!(rate >= 0 && rate <= demands.maxLearningRate)) {
    throw new DemandRefused(
      `round ${roundNum}: the server asks for a learning rate of ${general(rate)}, this client allows 0 to ` +
        general(demands.maxLearningRate),
    );
  }
  let largest = 0;
  for (const tensor of weights) for (const weight of tensor) largest = Math.max(largest, Math.abs(weight));
  if (!(largest <= demands.maxMagnitude)) {
    throw new DemandRefused(
      `round ${roundNum}: the server sends a weight of ${general(largest)}, this client allows ` +
        `${general(demands.maxMagnitude)}: training could overflow where the server wants it to`,
    );
  }
}

/** Returns the stage, or throws DemandRefused if the sum has none of that name. */
export function checkedStage({ aggregator }: Demands, stage: string, where: string): Stage {
  const found = aggregator === "secagg" ? STAGES.find((own) => own === stage) : undefined;
  if (!found) throw new DemandRefused(`${where}: there is no such stage in the sum '${aggregator}'`);
  return found;
}
