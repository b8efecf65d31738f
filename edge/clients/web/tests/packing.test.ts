import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/packing.json";
import { buildBatch } from "../src/batches.ts";
import { packed, shapesOf, smallest } from "../src/packing.ts";

const SHAPES = shapesOf(["train", "train_fixed", "train_2x4", "train_1x4", "train_01x4", "train_1x4_", "infer"]);

test(`${vectors.cases.length} batches go where every client puts them`, () => {
  const shapes = shapesOf(vectors.shapes);
  assert.equal(shapes.length, vectors.shapes.length);
  for (const { name, lengths, signature, places } of vectors.cases) {
    const chosen = smallest(lengths, shapes);
    assert.equal(chosen?.shape.signature ?? null, signature, name);
    assert.deepEqual(chosen?.found.map(({ sentence, row, position }) => [sentence, row, position]) ?? null, places, name);
  }
});

test("only names of shapes are shapes", () => {
  assert.deepEqual(SHAPES.map(({ signature, rows, time }) => [signature, rows, time]), [["train_2x4", 2, 4], ["train_1x4", 1, 4]]);
});

test("sentences that share a row stand one after the other, the longest first", () => {
  const found = packed(buildBatch([[7], [], [4, 5, 6, 8]], 4, 4), 4, SHAPES);
  assert.equal(found?.shape.signature, "train_2x4");
  assert.deepEqual(Array.from(found!.batch.tokens), [1, 4, 5, 6, 1, 7, 1, 0]);
  assert.deepEqual(Array.from(found!.batch.targets), [4, 5, 6, 8, 7, 2, 2, 0]);
  assert.deepEqual(Array.from(found!.batch.mask), [1, 1, 1, 1, 1, 1, 1, 0]);
  assert.deepEqual([found?.batch.examples, found?.batch.positions], [3, 7]);
});

test("what is no sentence, or too much, is trained as it is", () => {
  const batch = buildBatch([[7]], 1, 4);
  assert.equal(packed({ ...batch, tokens: Int32Array.of(5, 7, 0, 0) }, 4, SHAPES), null); // begins at no <bos>
  assert.equal(packed({ ...batch, tokens: Int32Array.of(1, 1, 0, 0) }, 4, SHAPES), null); // two of them
  assert.equal(packed({ ...batch, mask: Float32Array.of(1, 0, 1, 0) }, 4, SHAPES), null);
  assert.equal(packed(buildBatch([[4, 5, 6], [4, 5, 6], [7]], 3, 4), 4, SHAPES), null);
});
