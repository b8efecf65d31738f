// Encodes an update as integers: clips, weighs, rounds to a grid, and counts modulo 2**32, as orchestrator/encoding.py.
// The arithmetic is Python's, float32 where that is float32. Only the norm of an update longer than the clip norm may
// differ in its last bit, since numpy adds squares in an order that depends on the machine.

import { general } from "./numbers.ts";
import { random } from "./primitives.ts";
import { shapesOf, type ModelSize, type Settings } from "./settings.ts";
import { joined, sizeOf, totalSize } from "./tensors.ts";

const MODULUS_BITS = 32;
const ROUNDING_SLACK = 1 - 2 ** -20;
const LEAST_CLIP_NORM = 2 ** -96; // of a shorter one, steps of the grid in a unit are beyond float32
const BLOCK = 1 << 16; // coordinates rounded at a time

/** The draws of stochastic rounding, uniform in 0..1: not a source of secrets. */
export interface Uniform {
  float32s(count: number): Float32Array;
  float64(): number;
}

/** The browser's own randomness: nobody can know or repeat how an update was rounded. */
export const secureUniform: Uniform = {
  float32s(count) {
    const words = new Uint32Array(random(4 * count).buffer);
    return Float32Array.from(words, (word) => (word >>> 8) * 2 ** -24);
  },
  float64() {
    const [high, low] = new Uint32Array(random(8).buffer) as unknown as [number, number];
    return ((high >>> 5) * 2 ** 26 + (low >>> 6)) * 2 ** -53;
  },
};

/** Encodes one client's update as uint32 [numSlots]: the coordinates, then the weight. */
export class Encoder {
  readonly dim: number;
  readonly numSlots: number;
  readonly bits: number;
  readonly step: number;
  private readonly weightScale: number;

  constructor(
    readonly clipNorm: number,
    readonly numClients: number,
    readonly maxWeight: number,
    readonly shapes: readonly (readonly number[])[],
  ) {
    if (!(clipNorm >= LEAST_CLIP_NORM && Number.isFinite(clipNorm))) {
      throw new RangeError(`clip_norm must be at least ${general(LEAST_CLIP_NORM)}, got clip_norm=${clipNorm}`);
    }
    this.dim = totalSize(shapes);
    this.numSlots = this.dim + 1;
    this.bits = MODULUS_BITS - (32 - Math.clz32(numClients - 1)); // of a coordinate: 32 - ceil(log2(numClients))
    if (this.bits < 2) throw new RangeError(`the sums of ${numClients} clients leave ${this.bits} bits for a coordinate`);
    this.step = clipNorm / ((2 ** (this.bits - 1) - 1) * ROUNDING_SLACK);
    this.weightScale = 2 ** exponentOf((2 ** this.bits - 1) / maxWeight);
  }

  /** Returns the vector; the update must be finite: whoever sends it sends zeros with weight 0 otherwise. */
  encode(delta: readonly Float32Array[], weight: number, uniform: Uniform): Uint32Array<ArrayBuffer> {
    if (!(weight >= 0 && weight <= this.maxWeight)) throw new RangeError(`weight must lie in 0..${this.maxWeight}, got ${weight}`);
    const fits = delta.length === this.shapes.length && delta.every((one, place) => one.length === sizeOf(this.shapes[place]!));
    if (!fits) throw new RangeError("the update has other shapes than the model");
    const norm = l2Norm(delta);
    if (!Number.isFinite(norm)) throw new RangeError("the update holds a NaN or an infinity");
    const clip = norm > this.clipNorm ? this.clipNorm / norm : 1;
    const vector = new Uint32Array(this.numSlots);
    const factor = Math.fround((clip * (weight / this.maxWeight)) / this.step);
    roundStochastically(delta, factor, uniform, new Int32Array(vector.buffer, 0, this.dim));
    vector[this.dim] = Math.floor(weight * this.weightScale + uniform.float64());
    return vector;
  }
}

/** Returns the encoder of a run. */
export function buildEncoder(settings: Settings, size: ModelSize): Encoder {
  const { client, data, rounds, aggregation } = settings;
  const mostSentences = Math.min(client.max_sentences, data.max_sentences_train) * client.epochs;
  const maxWeight = clientWeight(client.weighting, mostSentences * data.max_words, mostSentences);
  return new Encoder(aggregation.clip_norm, rounds.cohort_size, maxWeight, shapesOf(size));
}

/** Returns what a client's update counts by in the mean. */
export function clientWeight(weighting: Settings["client"]["weighting"], numTokens: number, numExamples: number): number {
  if (weighting === "equal") return 1;
  return weighting === "tokens" ? numTokens : numExamples;
}

/** Returns the L2 norm over all tensors together; infinity if one holds a NaN or an infinity. */
export function l2Norm(tensors: readonly Float32Array[]): number {
  let squares = 0;
  for (const tensor of tensors) for (let i = 0; i < tensor.length; i += 1) squares += tensor[i]! * tensor[i]!;
  return Number.isFinite(squares) ? Math.sqrt(squares) : Infinity;
}

/** Writes factor * delta to `out`, rounded up with the probability of the fraction, else down. */
function roundStochastically(delta: readonly Float32Array[], factor: number, uniform: Uniform, out: Int32Array): void {
  const flat = joined(delta);
  for (let start = 0; start < flat.length; start += BLOCK) {
    const count = Math.min(BLOCK, flat.length - start);
    const draws = uniform.float32s(count);
    for (let i = 0; i < count; i += 1) {
      const scaled = Math.fround(flat[start + i]! * factor);
      const whole = Math.floor(scaled);
      out[start + i] = whole + (draws[i]! < Math.fround(scaled - whole) ? 1 : 0);
    }
  }
}

/** Returns floor(log2(x)) of a normal number, exactly: the exponent that its bits hold. */
function exponentOf(x: number): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  return ((view.getUint16(0) >> 4) & 0x7ff) - 1023;
}
