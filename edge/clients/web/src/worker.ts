/**
 * The worker: it holds the models, so that typing stays smooth while they work. One task at a time changes weights;
 * suggestions and `stop` are answered between its steps.
 */

import { loadLiteRt, supportsFeature } from "@litertjs/core";
import { draw, MIN_SENTENCES, seeded, split, Vocabulary } from "./batches.ts";
import { measure } from "./benchmark.ts";
import { type Bundle, openBundle } from "./bundle.ts";
import { FedkeysError } from "./errors.ts";
import { asFault, Fault } from "./faults.ts";
import { takePartHere } from "./join.ts";
import { LITERT_VERSION } from "./litert_version.ts";
import type { JoinOptions, Operations, Opened, Progress, Reply, Request, StepsRequest, Suggested, TrainingResult } from "./rpc.ts";
import * as store from "./store.ts";
import { totalSize } from "./tensors.ts";
import { checkVectors } from "./vectors.ts";
import { breathe, encoded, golden, isBetter, openPredictor, type Predictor, type Steps, steps, Trainer } from "./trainer.ts";

const NUM_SUGGESTIONS = 3;
const LEARNING_RATE = 0.3; // as fedkeys evaluate --personalise tries first with three epochs
const EPOCHS = 3;
const base = new URL("./", self.location.href);

class Phone {
  private trainer: Trainer | null = null;
  private first: Float32Array | null = null; // the bundle's own weights
  private isPersonal = false;
  private task: Promise<unknown> | null = null; // what changes weights
  private stopped = new AbortController();

  private constructor(
    private readonly bundle: Bundle,
    private readonly vocabulary: Vocabulary,
    private readonly predictor: Predictor,
    private readonly loadMs: { library: number; infer: number },
  ) {}

  static async open(): Promise<Phone> {
    const bundle = await openBundle(new URL("bundle/", base));
    const start = performance.now();
    await loadLibrary();
    const loaded = performance.now();
    const vocabulary = new Vocabulary(new TextDecoder().decode(await bundle.read("vocabulary.txt")));
    const predictor = await openPredictor(bundle);
    await predictor.after([]);
    const phone = new Phone(bundle, vocabulary, predictor, {
      library: loaded - start,
      infer: performance.now() - loaded,
    });
    await phone.recallPersonal();
    return phone;
  }

  /** Loads the weights that this device trained, if they began from this bundle. */
  private async recallPersonal(): Promise<void> {
    const personal = await store.get("personal").catch(() => undefined);
    if (personal === undefined || personal.manifest !== this.bundle.digest) return;
    await (await this.training()).setWeights(personal.weights);
    this.isPersonal = true;
  }

  private async training(): Promise<Trainer> {
    if (this.trainer === null) {
      this.trainer = await Trainer.open(await this.bundle.read("train.tflite"), this.bundle.manifest.model);
      this.first = await this.trainer.weights();
    }
    return this.trainer;
  }

  async opened(): Promise<Opened> {
    const file = (await supportsFeature("relaxedSimd")) ? "litert_wasm_internal" : "litert_wasm_compat_internal";
    return {
      manifest: this.bundle.manifest,
      digest: this.bundle.digest,
      signer: this.bundle.signer,
      isOffline: this.bundle.isOffline,
      numWeights: totalSize(this.bundle.manifest.model.weights.map(({ shape }) => shape)),
      loadMs: this.loadMs.library + this.loadMs.infer,
      isPersonal: this.isPersonal,
      assets: [`litert/${file}.js`, `litert/${file}.wasm`],
    };
  }

  async suggest(before: string[], half: string): Promise<Suggested> {
    const start = performance.now();
    // While weights change, the bundle's own model answers.
    const isPersonal = this.isPersonal && this.task === null && this.trainer !== null;
    const predictor = isPersonal && this.trainer ? this.trainer.predictor : this.predictor;
    const ids = await predictor.after(this.vocabulary.encode(before));
    const likely = ids.map((id) => this.vocabulary.words[id] ?? "").filter((word) => word.startsWith(half));
    const more = half === "" ? [] : this.vocabulary.beginningWith(half, 2 * NUM_SUGGESTIONS);
    const words = [...new Set([...likely, ...more])].slice(0, NUM_SUGGESTIONS);
    return { words, ms: performance.now() - start, isPersonal };
  }

  /** Runs what changes weights; nothing else that does may run meanwhile. */
  private async alone<T>(work: (trainer: Trainer, first: Float32Array, signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.task !== null) throw new Fault("busy");
    this.stopped = new AbortController();
    const { signal } = this.stopped;
    const task = this.training().then((trainer) => work(trainer, this.first as Float32Array, signal));
    this.task = task;
    try {
      return await task;
    } finally {
      this.task = null;
    }
  }

  stop(): void {
    this.stopped.abort();
  }

  async stopAndWait(): Promise<void> {
    this.stop();
    await this.task?.catch(() => undefined); // whoever began it hears of its fault
  }

  async unlearn(): Promise<void> {
    await this.alone(async (trainer, first) => {
      await store.remove("personal");
      this.isPersonal = false;
      await trainer.setWeights(first);
    });
  }

  golden(): Promise<Operations["golden"][1]> {
    return this.alone((trainer, first) => this.tested(trainer, first));
  }

  private async tested(trainer: Trainer, first: Float32Array): Promise<Operations["golden"][1]> {
    const result = await golden(this.bundle, trainer, first);
    await store.put("golden", { manifest: this.bundle.digest, ok: result.ok });
    return result;
  }

  /** A device on which the golden batch fails must not train. */
  private async requireGolden(trainer: Trainer, first: Float32Array): Promise<void> {
    const known = await store.get("golden");
    const isOk = known?.manifest === this.bundle.digest ? known.ok : (await this.tested(trainer, first)).ok;
    if (!isOk) throw new Fault("goldenFailed");
  }

  train(seconds: number): Promise<TrainingResult> {
    return this.alone(async (trainer, first, signal) => {
      const { train, heldOut } = split(await store.kept());
      if (train.length + heldOut.length < MIN_SENTENCES || heldOut.length === 0) {
        throw new Fault("tooFew", String(MIN_SENTENCES));
      }
      await this.requireGolden(trainer, first);
      const tests = encoded(heldOut, this.vocabulary);
      const old = await trainer.weights();
      tell({ kind: "recall", when: "before" });
      const before = await trainer.recall(tests);
      const course = await this.epochs(trainer, encoded(train, this.vocabulary), seconds, signal).catch(async (error: unknown) => {
        await trainer.setWeights(old);
        throw error;
      });
      tell({ kind: "recall", when: "after" });
      const after = await trainer.recall(tests);
      const isKept = isBetter(after, before);
      if (isKept) await this.keepPersonal(trainer, train.length);
      else await trainer.setWeights(old);
      return { before, after, sentences: train.length, heldOut: heldOut.length, isKept, ...course };
    });
  }

  private async keepPersonal(trainer: Trainer, sentences: number): Promise<void> {
    await store.put("personal", { manifest: this.bundle.digest, weights: await trainer.weights(), sentences });
    this.isPersonal = true;
  }

  private async epochs(
    trainer: Trainer,
    sentences: number[][],
    seconds: number,
    signal: AbortSignal,
  ): Promise<Pick<TrainingResult, "steps" | "seconds" | "msPerStep" | "end">> {
    const random = seeded(crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
    const whole = { epochs: EPOCHS, max_sentences: sentences.length, length_buckets: 1 };
    const batches = draw(sentences, whole, trainer.rows, trainer.time, random);
    const start = performance.now();
    const elapsed = () => (performance.now() - start) / 1000;
    let steps = 0;
    let end: TrainingResult["end"] = "done";
    for (const batch of batches) {
      if (signal.aborted) end = "stopped";
      else if (elapsed() >= seconds) end = "budget";
      if (end !== "done") break;
      const loss = await trainer.step(batch, LEARNING_RATE);
      if (!Number.isFinite(loss)) throw new Fault("diverged");
      steps++;
      tell({ kind: "step", step: steps, steps: batches.length, loss, seconds: elapsed() });
      await breathe();
    }
    const took = elapsed();
    return { steps, seconds: took, msPerStep: steps ? (1000 * took) / steps : 0, end };
  }

  async vectors(): Promise<Operations["vectors"][1]> {
    return checkVectors(await this.bundle.read("tokeniser_vectors.json"), this.vocabulary);
  }

  /** Reads these files of the bundle, or all, which compares their digests and keeps them; returns their number. */
  async files(names: readonly string[] = Object.keys(this.bundle.manifest.files)): Promise<number> {
    for (const name of names) await this.bundle.read(name);
    return names.length;
  }

  benchmark(): Promise<Operations["benchmark"][1]> {
    return this.alone(async (trainer, first) => {
      const before = await trainer.weights();
      try {
        return await measure(this.bundle, trainer, first, this.loadMs, (done, of) => tell({ kind: "benchmark", done, of }));
      } finally {
        await trainer.setWeights(before);
      }
    });
  }

  join(options: JoinOptions): Promise<string> {
    return this.alone(async (trainer, first, signal) => {
      const { words } = this.vocabulary;
      const own = await trainer.weights();
      await this.requireGolden(trainer, first);
      try {
        return await takePartHere(options, trainer, this.bundle, words, signal, tell);
      } catch (error) {
        if (signal.aborted) return ""; // the person left
        throw error;
      } finally {
        await trainer.setWeights(own);
      }
    });
  }
}

async function loadLibrary(): Promise<void> {
  // LiteRT's loader looks for its .wasm beside the worker unless it is told.
  Object.assign(self, { Module: { locateFile: (file: string) => new URL(`litert/${file}`, base).href } });
  await loadLiteRt(new URL("litert/", base).href);
}

/** Trains without a phone's bundle and storage, in a worker of its own. */
async function trainSteps({ train, model, weights, batches, learningRate }: StepsRequest): Promise<Steps> {
  await loadLibrary();
  return steps(await Trainer.open(train, model), weights, batches, learningRate);
}

let opening: Promise<Phone> | null = null;

function phone(): Promise<Phone> {
  opening ??= Phone.open().catch((error: unknown) => {
    opening = null; // so that it can be tried again
    throw error;
  });
  return opening;
}

const operations: { [Name in keyof Operations]: (...args: Operations[Name][0]) => Promise<Operations[Name][1]> } = {
  open: async () => (await phone()).opened(),
  suggest: async (before, half) => (await phone()).suggest(before, half),
  train: async (seconds) => (await phone()).train(seconds),
  stop: async () => (await phone()).stop(),
  stopAndWait: async () => (await phone()).stopAndWait(),
  unlearn: async () => (await phone()).unlearn(),
  golden: async () => (await phone()).golden(),
  vectors: async () => (await phone()).vectors(),
  files: async (names) => (await phone()).files(names),
  benchmark: async () => (await phone()).benchmark(),
  litert: async () => LITERT_VERSION,
  steps: trainSteps,
  join: async (options) => (await phone()).join(options),
};

function answer(reply: Reply): void {
  self.postMessage(reply);
}

function tell(progress: Progress): void {
  answer({ progress });
}

self.onmessage = async ({ data }: MessageEvent<Request>) => {
  const run = operations[data.name] as (...args: unknown[]) => Promise<unknown>;
  try {
    answer({ id: data.id, ok: await run(...data.args) });
  } catch (error) {
    const { code, detail } = error instanceof FedkeysError ? new Fault("round", error.message) : asFault(error);
    answer({ id: data.id, error: { code, detail } });
  }
};
