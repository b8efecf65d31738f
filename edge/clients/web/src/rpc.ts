/** What page and worker say to each other. */

import type { Manifest, Signer } from "./bundle.ts";
import type { FaultCode } from "./faults.ts";
import type { Aggregator } from "./demands.ts";
import type { Distribution } from "./quantiles.ts";
import type { Golden, Recall, Steps } from "./trainer.ts";

/** How to take part: in which sum, and the fewest people whose updates may be summed with this one. */
export interface JoinOptions {
  aggregator: Aggregator;
  minSurvivors: number;
}

/** What the worker says once the bundle is open. */
export interface Opened {
  manifest: Manifest;
  digest: string;
  signer: Signer;
  isOffline: boolean;
  numWeights: number;
  loadMs: number;
  isPersonal: boolean;
  assets: string[]; // what to keep for use offline
}

export interface Suggested {
  words: string[];
  ms: number;
  isPersonal: boolean;
}

export interface TrainingResult {
  before: Recall;
  after: Recall;
  steps: number;
  sentences: number;
  heldOut: number;
  seconds: number;
  msPerStep: number;
  isKept: boolean;
  end: "done" | "stopped" | "budget";
}

export interface VectorCheck {
  messages: number;
  keyStrokes: number;
  wrong: string | null; // the first text that is read otherwise
}

export interface BenchmarkResult {
  train_step_ms: ({ sentences: number; rows: number } & Distribution)[];
  key_stroke_ms: ({ model: string } & Distribution)[];
  load_ms: { library: number; infer: number; train: number };
}

/** What `fedkeys parity` trains in Node, beside the other runtimes: 50 steps, without a bundle's server. */
export interface StepsRequest {
  train: Uint8Array; // train.tflite
  model: Manifest["model"];
  weights: Float32Array; // that training starts from
  batches: Uint8Array; // as golden/batches.bin
  learningRate: number;
}

/** The operations of the worker: name -> [arguments, result]. */
export interface Operations {
  open: [[], Opened];
  suggest: [[before: string[], half: string], Suggested];
  train: [[seconds: number], TrainingResult];
  stop: [[], void];
  stopAndWait: [[], void];
  unlearn: [[], void];
  golden: [[], Golden];
  vectors: [[], VectorCheck];
  files: [[names?: readonly string[]], number];
  benchmark: [[], BenchmarkResult];
  litert: [[], string]; // its version
  steps: [[StepsRequest], Steps];
  join: [[JoinOptions], string]; // why the server let the client go; empty if the person left
}

/** What the worker tells while it works. */
export type Progress =
  | { kind: "step"; step: number; steps: number; loss: number; seconds: number }
  | { kind: "recall"; when: "before" | "after" }
  | { kind: "benchmark"; done: number; of: number }
  | { kind: "roster"; number: number; people: number; isSigned: boolean; helpers: string[] } // their keys, as hex
  | { kind: "connection"; isUp: boolean }
  | { kind: "stage"; round: number; stage: string }
  | { kind: "left"; round: number; stage: string; bytes: number; numbers: readonly number[] };

export interface Request {
  id: number;
  name: keyof Operations;
  args: unknown[];
}

export type Reply =
  | { id: number; ok: unknown }
  | { id: number; error: { code: FaultCode; detail: string } }
  | { progress: Progress };
