/** Sentences of word ids as the padded batches that the exported model trains on. The counterpart of models/batches.py. */

export const BOS = 1;
const EOS = 2;
export const UNK = 3;
export const NUM_SPECIAL = 4;

/** One batch: `rows` sentences of `time` positions each; mask is 1 where there is a word. */
export interface Batch {
  tokens: Int32Array;
  targets: Int32Array;
  mask: Float32Array;
  examples: number;
  positions: number;
}

/** Returns one batch of at most `rows` sentences; the rows after them are filling, whose mask is 0. */
export function buildBatch(sentences: readonly (readonly number[])[], rows: number, time: number): Batch {
  const tokens = new Int32Array(rows * time);
  const targets = new Int32Array(rows * time);
  const mask = new Float32Array(rows * time);
  let positions = 0;
  sentences.forEach((sentence, row) => {
    const words = sentence.slice(0, time);
    const real = Math.min(words.length + 1, time);
    const start = row * time;
    tokens[start] = BOS;
    tokens.set(words.slice(0, real - 1), start + 1);
    targets.set(words, start);
    if (words.length < time) targets[start + words.length] = EOS;
    mask.fill(1, start, start + real);
    positions += real;
  });
  return { tokens, targets, mask, examples: sentences.length, positions };
}

/** A generator of numbers in 0..1 from a seed, so that a training can be repeated. Source: mulberry32 (public domain). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Returns the values in a random order. */
export function shuffled<T>(values: readonly T[], random: () => number): T[] {
  const order = [...values];
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    const moved = order[last] as T;
    order[last] = order[other] as T;
    order[other] = moved;
  }
  return order;
}

/** What a run says of a client's batches. */
interface Drawing {
  readonly epochs: number;
  readonly max_sentences: number;
  readonly length_buckets: number;
}

/** Returns a round's batches, drawn as models/batches.py draws them: at most so many sentences, anew in each epoch's order. */
export function draw(
  sentences: readonly (readonly number[])[],
  { epochs, max_sentences, length_buckets }: Drawing,
  rows: number,
  time: number,
  random: () => number,
): Batch[] {
  const chosen = shuffled(sentences, random).slice(0, max_sentences);
  return Array.from({ length: epochs }, () => {
    const order = bucketed(shuffled(chosen, random), length_buckets, random);
    const batches: Batch[] = [];
    for (let at = 0; at < order.length; at += rows) batches.push(buildBatch(order.slice(at, at + rows), rows, time));
    return length_buckets > 1 ? shuffled(batches, random) : batches;
  }).flat();
}

/** Returns sentences in groups alike in length, so that a batch's rows are; the sizes of the groups differ by 1 at most. */
function bucketed<T extends readonly number[]>(order: T[], buckets: number, random: () => number): T[] {
  if (buckets <= 1) return order;
  const sorted = [...order].sort((one, other) => one.length - other.length);
  const [size, rest] = [Math.floor(sorted.length / buckets), sorted.length % buckets];
  const found: T[] = [];
  for (let bucket = 0, at = 0; bucket < buckets; bucket++) {
    const end = at + size + (bucket < rest ? 1 : 0);
    found.push(...shuffled(sorted.slice(at, end), random));
    at = end;
  }
  return found;
}

/** The fewest kept sentences that a training takes. */
export const MIN_SENTENCES = 20;

const HELD_OUT_EVERY = 5;

/**
 * Returns the kept sentences as those to train on and those held out: every fifth by its number, so that a sentence
 * never changes sides. What was typed twice and is trained on is not held out as well.
 */
export function split(kept: readonly { id: number; words: string }[]): { train: string[]; heldOut: string[] } {
  const train = kept.filter(({ id }) => id % HELD_OUT_EVERY !== 0).map(({ words }) => words);
  const trained = new Set(train);
  const heldOut = kept
    .filter(({ id, words }) => id % HELD_OUT_EVERY === 0 && !trained.has(words))
    .map(({ words }) => words);
  return { train, heldOut };
}

/** The word list of a bundle: ids by word, words by id. */
export class Vocabulary {
  readonly words: readonly string[];
  private readonly ids: ReadonlyMap<string, number>;

  constructor(file: string) {
    this.words = file.split("\n").slice(0, -1);
    // Without the special words: what somebody typed is never padding.
    this.ids = new Map(this.words.slice(NUM_SPECIAL).map((word, index) => [word, index + NUM_SPECIAL]));
  }

  encode(words: readonly string[]): number[] {
    return words.map((word) => this.ids.get(word) ?? UNK);
  }

  /** Returns the first words of the list, which has the most frequent ones first, that begin so. */
  beginningWith(half: string, count: number): string[] {
    const found: string[] = [];
    for (let id = NUM_SPECIAL; id < this.words.length && found.length < count; id++) {
      const word = this.words[id] as string;
      if (word.startsWith(half)) found.push(word);
    }
    return found;
  }
}

/** The golden batch file, FKBATCH1; laid out as edge/clients/files.py says. Raises if it is another file. */
export function readBatches(content: Uint8Array): { rows: number; time: number; batches: Batch[] } {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const header = 24;
  const isBatches = content.length >= header && new TextDecoder().decode(content.subarray(0, 8)) === "FKBATCH1";
  const [count, rows, time] = isBatches ? [8, 12, 16].map((at) => view.getInt32(at, true)) : [0, 0, 0];
  if (!count || !rows || !time || content.length !== header + count * rows * time * 12) {
    throw new Error("golden/batches.bin is damaged: export the bundle again");
  }
  const size = rows * time;
  const batches = Array.from({ length: count }, (_, index) => {
    const from = content.slice(header + index * size * 12, header + (index + 1) * size * 12).buffer;
    const mask = new Float32Array(from, size * 8, size);
    return {
      tokens: new Int32Array(from, 0, size),
      targets: new Int32Array(from, size * 4, size),
      mask,
      examples: rows,
      positions: mask.reduce((sum, one) => sum + one, 0),
    };
  });
  return { rows, time, batches };
}
