/**
 * Which of a model's fixed shapes a batch is trained in, and where each sentence stands there. The counterpart of
 * edge/clients/packing.py, whose rule it is; edge/conformance/packing.json holds cases.
 */

import { type Batch, BOS } from "./batches.ts";

/** A train signature of so many rows of so many positions, in which several sentences may stand in a row. */
export interface TrainShape {
  readonly signature: string;
  readonly rows: number;
  readonly time: number;
}

/** Where a sentence stands in a shape. */
export interface Place {
  readonly sentence: number;
  readonly row: number;
  readonly position: number;
}

/** Returns the shapes among the names of a model's signatures. */
export function shapesOf(signatures: readonly string[]): TrainShape[] {
  return signatures.flatMap((signature) => {
    const [, rows, time] = /^train_([1-9][0-9]{0,5})x([1-9][0-9]{0,5})$/.exec(signature) ?? [];
    return rows === undefined ? [] : [{ signature, rows: Number(rows), time: Number(time) }];
  });
}

/** Returns where sentences of these lengths stand in a shape, the empty ones nowhere; null if they do not fit. */
export function places(lengths: readonly number[], shape: TrainShape): Place[] | null {
  const used = new Array<number>(shape.rows).fill(0);
  const found: Place[] = [];
  const order = [...lengths.keys()].sort((one, other) => (lengths[other] as number) - (lengths[one] as number));
  for (const sentence of order) {
    const length = lengths[sentence] as number;
    if (length === 0) break;
    const row = used.findIndex((taken) => taken + length <= shape.time);
    if (row < 0) return null;
    const position = used[row] as number;
    found.push({ sentence, row, position });
    used[row] = position + length;
  }
  return found;
}

/** Returns the shape that a batch of these lengths trains in, and the places there; null if no shape holds it. */
export function smallest(lengths: readonly number[], shapes: readonly TrainShape[]): { shape: TrainShape; found: Place[] } | null {
  const ordered = [...shapes].sort((one, other) => one.rows * one.time - other.rows * other.time || one.time - other.time);
  for (const shape of ordered) {
    const found = places(lengths, shape);
    if (found !== null) return { shape, found };
  }
  return null;
}

/** Returns a batch of rows of `time` positions in the smallest shape that holds it; null if none does. */
export function packed(batch: Batch, time: number, shapes: readonly TrainShape[]): { shape: TrainShape; batch: Batch } | null {
  const lengths = lengthsOf(batch, time);
  const chosen = lengths && smallest(lengths, shapes);
  if (!chosen) return null;
  const { shape, found } = chosen;
  const tokens = new Int32Array(shape.rows * shape.time);
  const targets = new Int32Array(shape.rows * shape.time);
  const mask = new Float32Array(shape.rows * shape.time);
  for (const { sentence, row, position } of found) {
    const [from, to] = [sentence * time, row * shape.time + position];
    const end = from + (lengths[sentence] as number);
    tokens.set(batch.tokens.subarray(from, end), to);
    targets.set(batch.targets.subarray(from, end), to);
    mask.set(batch.mask.subarray(from, end), to);
  }
  return { shape, batch: { ...batch, tokens, targets, mask } };
}

/** Returns the positions of each row's sentence; null if a row holds anything but a sentence that begins at <bos>. */
function lengthsOf({ tokens, mask }: Batch, time: number): number[] | null {
  const lengths: number[] = [];
  for (let start = 0; start < mask.length; start += time) {
    let length = 0;
    for (let place = 0; place < time; place++) {
      if (mask[start + place] !== 1) continue;
      if (place !== length || (tokens[start + place] === BOS) !== (place === 0)) return null;
      length++;
    }
    lengths.push(length);
  }
  return lengths;
}
