/**
 * The exported model in LiteRT.js: predicts, scores and trains. It runs in a worker only.
 *
 * Tensors lie in the memory of WebAssembly and are freed by hand; `call` does so whatever happens.
 */

import { type CompiledModel, loadAndCompile, Tensor } from "@litertjs/core";
import { type Batch, BOS, NUM_SPECIAL, readBatches, type Vocabulary } from "./batches.ts";
import type { Bundle, Manifest } from "./bundle.ts";
import { Fault } from "./faults.ts";
import { packed, shapesOf, type TrainShape } from "./packing.ts";
import { joined, parted, totalSize } from "./tensors.ts";

type Numbers = Float32Array | Int32Array;
type Value = readonly [Numbers, readonly number[]];

/** What a model says of a set of sentences. Positions whose word is outside the word list are not scored. */
export interface Recall {
  words: number;
  hits1: number;
  hits3: number;
}

/** Whether a model is better: more words are first, or as many are and more are among the first three. */
export const isBetter = (after: Recall, before: Recall): boolean =>
  after.hits1 > before.hits1 || (after.hits1 === before.hits1 && after.hits3 > before.hits3);

interface Stroke {
  id: number;
  ids: number[];
  hidden: Float32Array;
  cell: Float32Array;
}

async function call(model: CompiledModel, signature: string, inputs: Record<string, Value>): Promise<Record<string, Numbers>> {
  const tensors: Record<string, Tensor> = {};
  let outputs: Record<string, Tensor> = {};
  try {
    for (const [name, [data, shape]] of Object.entries(inputs)) tensors[name] = new Tensor(data, [...shape]);
    outputs = await model.run(signature, tensors);
    const read: Record<string, Numbers> = {};
    // The data is a view of WebAssembly's memory, which goes with the tensor.
    for (const [name, tensor] of Object.entries(outputs)) read[name] = (await tensor.data()).slice() as Numbers;
    return read;
  } finally {
    for (const tensor of [...Object.values(tensors), ...Object.values(outputs)]) tensor.delete();
  }
}

/** One key stroke after the other: words are read once, and what was read before is not read again. */
export class Predictor {
  private readonly read: Stroke[] = [];

  constructor(
    private readonly model: CompiledModel,
    private readonly size: Manifest["model"],
  ) {}

  /** Returns the ids of the three likeliest next words after those; `ids` without the <bos>. */
  async after(ids: readonly number[]): Promise<number[]> {
    const wanted = [BOS, ...ids.slice(-(this.size.max_words - 1))];
    let known = 0;
    while (known < this.read.length && known < wanted.length && this.read[known]?.id === wanted[known]) known++;
    this.read.length = known;
    for (const id of wanted.slice(known)) this.read.push(await this.stroke(id));
    return this.read.at(-1)?.ids ?? [];
  }

  forget(): void {
    this.read.length = 0;
  }

  private async stroke(id: number): Promise<Stroke> {
    const { embedding_size: width, num_cells: cells } = this.size;
    const before = this.read.at(-1);
    const found = await call(this.model, "infer", {
      token: [Int32Array.of(id), [1]],
      hidden: [before?.hidden ?? new Float32Array(width), [1, width]],
      cell: [before?.cell ?? new Float32Array(cells), [1, cells]],
    });
    return {
      id,
      ids: Array.from(found["ids"] as Int32Array),
      hidden: found["next_hidden"] as Float32Array,
      cell: found["next_cell"] as Float32Array,
    };
  }
}

/** Returns the model of `infer.tflite`, which does not change. */
export async function openPredictor(bundle: Bundle): Promise<Predictor> {
  const model = await loadAndCompile(await bundle.read("infer.tflite"), { accelerator: "wasm" });
  return new Predictor(model, bundle.manifest.model);
}

/** The model of `train.tflite`: its weights change. All weights together are one array, in the manifest's order. */
export class Trainer {
  readonly predictor: Predictor;
  readonly rows: number; // of a batch, at most
  readonly time: number;

  private constructor(
    private readonly model: CompiledModel,
    private readonly size: Manifest["model"],
    private readonly outputs: readonly string[],
    private readonly shapes: readonly TrainShape[],
    rows: number,
  ) {
    this.predictor = new Predictor(model, size);
    this.rows = rows;
    this.time = size.max_words;
  }

  /** Opens a `train.tflite`. Throws Fault for one from before the signature `train_fixed`. */
  static async open(content: Uint8Array, size: Manifest["model"]): Promise<Trainer> {
    const model = await loadAndCompile(content, { accelerator: "wasm" });
    const fixed = model.signatures["train_fixed"];
    const rows = fixed?.getInputDetails().find(({ name }) => name === "tokens")?.shape[0];
    const outputs = model.signatures["get_weights"]?.getOutputDetails().map(({ name }) => name);
    if (rows === undefined || rows < 1 || outputs === undefined) throw new Fault("bundleOld"); // LiteRT.js needs train_fixed
    return new Trainer(model, size, outputs, shapesOf(Object.keys(model.signatures)), rows);
  }

  async weights(): Promise<Float32Array> {
    const found = await this.model.run("get_weights", []);
    try {
      const parts = new Map(this.outputs.map((name, index) => [name, found[index]]));
      const read: Float32Array[] = [];
      for (const { name } of this.size.weights) {
        const tensor = parts.get(name);
        if (tensor === undefined) throw new Error(`train.tflite has no weight ${name}`);
        read.push((await tensor.data()).slice() as Float32Array);
      }
      return joined(read);
    } finally {
      for (const tensor of found) tensor.delete();
    }
  }

  async setWeights(all: Float32Array): Promise<void> {
    const shapes = this.size.weights.map(({ shape }) => shape);
    const numWeights = totalSize(shapes);
    if (all.length !== numWeights) throw new Error(`the model has ${numWeights} weights, not ${all.length}`);
    const values = parted(all, shapes);
    const inputs = this.size.weights.map(({ name, shape }, index) => [name, [values[index] as Float32Array, shape]] as const);
    await call(this.model, "set_weights", Object.fromEntries(inputs));
    this.predictor.forget();
  }

  /** The smallest signature that a batch trains in, and the batch as that takes it. */
  fitted(whole: Batch): { signature: string; shape: readonly [number, number]; batch: Batch } {
    const smaller = packed(whole, this.time, this.shapes);
    if (smaller === null) return { signature: "train_fixed", shape: [this.rows, this.time], batch: widened(whole, this.rows, this.time) };
    const { signature, rows, time } = smaller.shape;
    return { signature, shape: [rows, time], batch: smaller.batch };
  }

  /** Trains one step and returns the mean loss before it, in nats per word. */
  async step(whole: Batch, learningRate: number): Promise<number> {
    const { signature, shape, batch } = this.fitted(whole);
    const found = await call(this.model, signature, {
      tokens: [batch.tokens, shape],
      targets: [batch.targets, shape],
      mask: [batch.mask, shape],
      learning_rate: [Float32Array.of(learningRate), []],
    });
    this.predictor.forget();
    return found["loss"]?.[0] ?? Number.NaN;
  }

  /** Scores sentences of word ids, as models/metrics.py does: each word of the list that follows the words before. */
  async recall(sentences: readonly (readonly number[])[]): Promise<Recall> {
    const sum: Recall = { words: 0, hits1: 0, hits3: 0 };
    for (const sentence of sentences) {
      for (const [place, id] of sentence.slice(0, this.time).entries()) {
        if (id < NUM_SPECIAL) continue;
        const ids = await this.predictor.after(sentence.slice(0, place));
        sum.words++;
        if (ids[0] === id) sum.hits1++;
        if (ids.includes(id)) sum.hits3++;
      }
      await breathe();
    }
    return sum;
  }
}

/** Lets the worker read its messages, so that it can be stopped. */
export const breathe = (): Promise<void> =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });

/** Returns sentences as ids. */
export const encoded = (sentences: readonly string[], vocabulary: Vocabulary): number[][] =>
  sentences.map((words) => vocabulary.encode(words.split(" ")));

/** What the golden batch came to: the largest difference of a weight, and what is allowed. */
export interface Golden {
  steps: number;
  largest: number;
  tolerance: number;
  ok: boolean;
}

/** The weights after some steps, and the loss of each step, in nats per word. */
export interface Steps {
  weights: Float32Array;
  losses: number[];
}

/** Trains on a file of batches, from these weights on. */
export async function steps(trainer: Trainer, first: Float32Array, file: Uint8Array, rate: number): Promise<Steps> {
  const { time, batches } = readBatches(file);
  if (time !== trainer.time) throw new Error(`the batches have ${time} positions, the model has ${trainer.time}`);
  await trainer.setWeights(first);
  const losses: number[] = [];
  for (const batch of batches) losses.push(await trainer.step(batch, rate));
  return { weights: await trainer.weights(), losses };
}

function widened(batch: Batch, rows: number, time: number): Batch {
  const size = rows * time;
  if (batch.tokens.length === size) return batch;
  if (batch.tokens.length > size) throw new Error(`a batch has ${batch.tokens.length / time} rows, train_fixed takes ${rows}`);
  const tokens = new Int32Array(size);
  const targets = new Int32Array(size);
  const mask = new Float32Array(size);
  tokens.set(batch.tokens);
  targets.set(batch.targets);
  mask.set(batch.mask);
  return { ...batch, tokens, targets, mask };
}

const LARGEST_TOLERANCE = 1e-5; // the most that an export writes

/** Trains on the golden batch from the bundle's weights and compares; the weights of before come back. */
export async function golden(bundle: Bundle, trainer: Trainer, first: Float32Array): Promise<Golden> {
  const batches = await bundle.read("golden/batches.bin");
  const lines = new TextDecoder().decode(await bundle.read("golden/expected.txt")).trim().split("\n");
  const expected = new Map(lines.map((line) => line.split(" ") as [string, string]));
  const after = await bundle.read("golden/weights_after.bin");
  const wanted = new Float32Array(after.slice().buffer);
  const [rate, tolerance] = [Number(expected.get("learning_rate")), Number(expected.get("tolerance"))];
  if (!(rate > 0) || !(tolerance <= LARGEST_TOLERANCE)) throw new Error("golden/ is damaged");
  const before = await trainer.weights();
  try {
    const { weights, losses } = await steps(trainer, first, batches, rate);
    const largest = largestDifference(weights, wanted);
    return { steps: losses.length, largest, tolerance, ok: largest <= tolerance };
  } finally {
    await trainer.setWeights(before);
  }
}

/** Returns the largest difference; NaN where a value is none, so that no comparison passes. */
export function largestDifference(one: Float32Array, other: Float32Array): number {
  if (one.length !== other.length) return Number.NaN;
  let largest = 0;
  for (let index = 0; index < one.length; index++) {
    const difference = Math.abs((one[index] as number) - (other[index] as number));
    if (!(difference <= largest)) largest = difference;
    if (Number.isNaN(largest)) return largest;
  }
  return largest;
}
