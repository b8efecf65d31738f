// A run's settings as the server sends them: JSON with every setting of this version, each in its range. The ranges come
// from edge/conformance/settings.json, which is made from Python's settings.

import schema from "../../../conformance/settings.json";
import { DemandRefused, WireError } from "./errors.ts";
import { ascii, equal, type Bytes } from "./primitives.ts";
import { totalSize } from "./tensors.ts";

/** The settings that a client reads, by their names in docs/configuration.md. */
export interface Settings {
  readonly data: {
    readonly vocabulary_size: number;
    readonly tokeniser: number;
    readonly segmenter: string;
    readonly max_words: number;
    readonly min_sentences: number;
    readonly max_sentences_train: number;
  };
  readonly model: {
    readonly vocabulary_size: number;
    readonly embedding_size: number;
    readonly num_cells: number;
    readonly kind: string;
    readonly frozen: string;
  };
  readonly client: {
    readonly learning_rate: number;
    readonly clip_norm: number;
    readonly epochs: number;
    readonly batch_size: number;
    readonly max_sentences: number;
    readonly length_buckets: number;
    readonly proximal: number;
    readonly dropout: number;
    readonly weighting: "tokens" | "examples" | "equal";
  };
  readonly rounds: { readonly count: number; readonly cohort_size: number };
  readonly aggregation: {
    readonly aggregator: string;
    readonly clip_norm: number;
    readonly min_survivors: number;
    readonly groups: number;
    readonly helpers: number;
  };
  readonly privacy: { readonly mechanism: string; readonly adaptive_clip: boolean };
}

/** The three numbers that fix every weight's shape. */
export interface ModelSize {
  readonly vocabularySize: number;
  readonly embeddingSize: number;
  readonly numCells: number;
}

/** A run as the server announced it. */
export interface RunSettings {
  readonly seed: string; // up to 63 bits, more than a number holds
  readonly settings: Settings;
  readonly words: readonly string[];
  readonly size: ModelSize;
}

interface Described {
  readonly type: string;
  readonly one_of?: readonly string[];
  readonly gt?: number;
  readonly ge?: number;
  readonly lt?: number;
  readonly le?: number;
  readonly min_length?: number;
}

const SPECIAL_WORDS = ["<pad>", "<bos>", "<eos>", "<unk>"];
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/; // as Python's str.split
const SEED = /^\{"seed":(0|[1-9]\d{0,18})[,}]/; // Python writes it first; a number of JavaScript would lose digits
const MOST_SEED = 2n ** 63n - 1n;
const MOST_WEIGHTS = 2 ** 28; // what fedkeys itself trains at most
const NOT_OURS = "the server's configuration or vocabulary is not one of this fedkeys";

/** Returns the shapes of the weights: embedding, kernel, bias, projection, output bias. */
export function shapesOf({ vocabularySize, embeddingSize, numCells }: ModelSize): number[][] {
  return [
    [vocabularySize, embeddingSize],
    [2 * embeddingSize, 3 * numCells],
    [3 * numCells],
    [numCells, embeddingSize],
    [vocabularySize],
  ];
}

export const numWeights = (size: ModelSize): number => totalSize(shapesOf(size));

/**
 * Returns the run that a Setup announces.
 *
 * Throws WireError if it is no configuration or vocabulary of this version, DemandRefused if two settings contradict each
 * other or ask for what a browser does not do.
 */
export function readRun(config: Bytes, words: readonly string[]): RunSettings {
  const seed = SEED.exec(decoded(config.subarray(0, 64)))?.[1];
  const found = parsed(config);
  const settings = checkedSections(found);
  if (seed === undefined || BigInt(seed) > MOST_SEED || Number(seed) !== found["seed"]) throw new WireError(NOT_OURS);
  if (!isVocabulary(words)) throw new WireError(NOT_OURS);
  checkRules(settings);
  const { vocabulary_size, embedding_size, num_cells } = settings.model;
  const size = {
    vocabularySize: Math.min(vocabulary_size, words.length),
    embeddingSize: embedding_size,
    numCells: num_cells,
  };
  return { seed, settings, words, size };
}

/** Throws DemandRefused for a model that is larger than what fedkeys itself trains. */
export function checkTrainable(size: ModelSize): void {
  if (numWeights(size) > MOST_WEIGHTS) throw untrainable(`the model would have ${numWeights(size)} weights`);
}

const decoded = (octets: Bytes): string => new TextDecoder("utf-8").decode(octets);

function parsed(config: Bytes): Record<string, unknown> {
  const text = decoded(config);
  if (!equal(ascii(text), config)) throw new WireError(NOT_OURS); // no UTF-8
  try {
    return asObject(JSON.parse(text));
  } catch (error) {
    if (error instanceof SyntaxError) throw new WireError(NOT_OURS);
    throw error;
  }
}

function asObject(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new WireError(NOT_OURS);
  return value as Record<string, unknown>;
}

/** Every section and every setting must be there, none besides, each in its range: another version's run is refused. */
function checkedSections(found: Record<string, unknown>): Settings {
  const sections: Record<string, Record<string, Described>> = schema.sections;
  if (!sameKeys(found, { seed: null, ...sections })) throw new WireError(NOT_OURS);
  for (const [section, settings] of Object.entries(sections)) {
    const own = asObject(found[section]);
    if (!sameKeys(own, settings)) throw new WireError(NOT_OURS);
    for (const [name, described] of Object.entries(settings)) {
      if (!fits(own[name], described)) throw new WireError(NOT_OURS);
      if (described.one_of && !described.one_of.includes(own[name] as string)) {
        throw untrainable(`${section}.${name} must be ${described.one_of.join(" or ")}`);
      }
    }
  }
  return found as unknown as Settings;
}

const sameKeys = (one: object, other: object): boolean =>
  Object.keys(one).sort().join("\n") === Object.keys(other).sort().join("\n");

function fits(value: unknown, { type, gt, ge, lt, le, min_length }: Described): boolean {
  if (type === "bool") return typeof value === "boolean";
  if (type === "text") return typeof value === "string" && value.length >= (min_length ?? 0);
  if (typeof value !== "number" || !Number.isFinite(value)) return false;
  if (type === "int" && !Number.isInteger(value)) return false;
  const above = (gt === undefined || value > gt) && (ge === undefined || value >= ge);
  return above && (lt === undefined || value < lt) && (le === undefined || value <= le);
}

function isVocabulary(words: readonly string[]): boolean {
  const isWord = (word: string) => word.length > 0 && !WHITE_SPACE.test(word);
  const beginsSo = SPECIAL_WORDS.every((special, id) => words[id] === special);
  return beginsSo && words.length > SPECIAL_WORDS.length && words.every(isWord) && new Set(words).size === words.length;
}

/** The rules between settings that bear on a client's work. */
function checkRules({ data, model, client, rounds, aggregation, privacy }: Settings): void {
  const rules: [boolean, string][] = [
    [model.vocabulary_size <= data.vocabulary_size, "the model can't have more words than the vocabulary"],
    [data.min_sentences <= data.max_sentences_train, "nobody could have enough sentences to train"],
    [aggregation.min_survivors <= rounds.cohort_size, "no round could ever be summed"],
    [aggregation.min_survivors >= 2 || aggregation.aggregator === "plain", "the sum of one is that one's update"],
    [client.length_buckets <= data.max_words, "there are no more lengths than data.max_words"],
    [client.dropout === 0 && client.proximal === 0, "the exported model trains without dropout and FedProx"],
    [model.frozen === "", "clients outside this process train all of a model's weights"],
    [privacy.mechanism === "none" && !privacy.adaptive_clip, "over a network a sum has one clip norm and no noise"],
  ];
  for (const [holds, why] of rules) if (!holds) throw untrainable(why);
}

const untrainable = (why: string): DemandRefused => new DemandRefused(`the server's settings can't be trained with: ${why}`);
