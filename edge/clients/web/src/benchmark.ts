/** Times the model on this device. All times are wall-clock milliseconds in the worker. */

import { loadAndCompile } from "@litertjs/core";
import { buildBatch, NUM_SPECIAL, seeded } from "./batches.ts";
import type { Bundle } from "./bundle.ts";
import { type Distribution, distribution } from "./quantiles.ts";
import type { BenchmarkResult } from "./rpc.ts";
import { breathe, openPredictor, type Predictor, type Trainer } from "./trainer.ts";

const SENTENCES = [1, 4, 16];
const STEPS = 30;
const STROKES = 300;
const WARM_UP = 3;
const LEARNING_RATE = 0.01;

async function timed(times: number, work: (index: number) => Promise<unknown>): Promise<Distribution> {
  const taken: number[] = [];
  for (let index = 0; index < times + WARM_UP; index++) {
    const start = performance.now();
    await work(index);
    if (index >= WARM_UP) taken.push(performance.now() - start);
    if (index % 10 === 0) await breathe();
  }
  return distribution(taken);
}

/** Returns the times of train steps, key strokes and loading; `tell` hears how far it is. */
export async function measure(
  bundle: Bundle,
  trainer: Trainer,
  first: Float32Array,
  loaded: { library: number; infer: number },
  tell: (done: number, of: number) => void,
): Promise<BenchmarkResult> {
  const random = seeded(1);
  const words = bundle.manifest.model.vocabulary_size - NUM_SPECIAL;
  const draw = () => NUM_SPECIAL + Math.floor(random() * words);
  const sizes = SENTENCES.filter((size) => size <= trainer.rows);
  const parts = sizes.length + 3;
  const train_step_ms: BenchmarkResult["train_step_ms"] = [];
  for (const sentences of sizes) {
    const text = Array.from({ length: sentences }, () => Array.from({ length: trainer.time }, draw));
    const batch = buildBatch(text, trainer.rows, trainer.time);
    await trainer.setWeights(first);
    const times = await timed(STEPS, () => trainer.step(batch, LEARNING_RATE));
    train_step_ms.push({ sentences, rows: trainer.fitted(batch).shape[0], ...times });
    tell(train_step_ms.length, parts);
  }
  const strokes = async (predictor: Predictor) => {
    const typed: number[] = [];
    return timed(STROKES, (index) => {
      if (index % trainer.time === 0) typed.length = 0;
      else typed.push(draw());
      return predictor.after(typed);
    });
  };
  const key_stroke_ms: BenchmarkResult["key_stroke_ms"] = [];
  key_stroke_ms.push({ model: "infer.tflite", ...(await strokes(await openPredictor(bundle))) });
  tell(sizes.length + 1, parts);
  key_stroke_ms.push({ model: "train.tflite", ...(await strokes(trainer.predictor)) });
  tell(sizes.length + 2, parts);
  const content = await bundle.read("train.tflite");
  const start = performance.now();
  (await loadAndCompile(content, { accelerator: "wasm" })).delete();
  const train = performance.now() - start;
  tell(parts, parts);
  return { train_step_ms, key_stroke_ms, load_ms: { ...loaded, train } };
}
