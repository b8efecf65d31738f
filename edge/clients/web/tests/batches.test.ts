import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/batches.json";
import { buildBatch, draw, readBatches, seeded, shuffled, split, UNK, Vocabulary } from "../src/batches.ts";

const VOCABULARY = new Vocabulary("<pad>\n<bos>\n<eos>\n<unk>\nsee\nyou\nseen\n");

test("sentences become padded rows, as models/batches.py makes them", () => {
  const batch = buildBatch([[7, 9], [4, 5, 6, 7, 8]], 3, 4);
  assert.deepEqual(Array.from(batch.tokens), [1, 7, 9, 0, 1, 4, 5, 6, 0, 0, 0, 0]);
  assert.deepEqual(Array.from(batch.targets), [7, 9, 2, 0, 4, 5, 6, 7, 0, 0, 0, 0]);
  assert.deepEqual(Array.from(batch.mask), [1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
  assert.deepEqual([batch.examples, batch.positions], [2, 7]);
});

test("words have ids, unknown and special ones are <unk>", () => {
  assert.deepEqual(VOCABULARY.encode(["see", "you", "there", "<pad>"]), [4, 5, 3, 3]);
  assert.deepEqual(VOCABULARY.beginningWith("see", 3), ["see", "seen"]);
  assert.deepEqual(VOCABULARY.beginningWith("<", 3), []);
});

test("every fifth sentence is held out, and none of those that are trained on", () => {
  const kept = [1, 2, 3, 4, 5, 6, 10].map((id) => ({ id, words: `s${id}` }));
  kept.push({ id: 15, words: "s1" });
  assert.deepEqual(split(kept), { train: ["s1", "s2", "s3", "s4", "s6"], heldOut: ["s5", "s10"] });
});

test("an order is drawn from its seed, and holds everything once", () => {
  const values = Array.from({ length: 50 }, (_, index) => index);
  const order = shuffled(values, seeded(7));
  assert.deepEqual(order, shuffled(values, seeded(7)));
  assert.notDeepEqual(order, shuffled(values, seeded(8)));
  assert.deepEqual([...order].sort((one, other) => one - other), values);
});

test(`${vectors.drawn.length} rounds are drawn from their seeds as every client draws them`, () => {
  const sentences = vectors.sentences.map((ids) => ids.map((id) => (id < vectors.vocabulary_size ? id : UNK)));
  for (const { seed, batch_size, time, tokens, targets, mask, ...drawing } of vectors.drawn) {
    const found = draw(sentences, drawing, batch_size, time, seeded(seed));
    assert.deepEqual(found.map((batch) => Array.from(batch.tokens)), tokens.map((rows) => rows.flat()));
    assert.deepEqual(found.map((batch) => Array.from(batch.targets)), targets.map((rows) => rows.flat()));
    assert.deepEqual(found.map(({ positions }) => positions), mask.map((rows) => rows.reduce((sum, real) => sum + real)));
  }
});

test("the golden batch's file is read, and refused if it is cut off", () => {
  const content = new Uint8Array(24 + 2 * 3 * 12);
  content.set(new TextEncoder().encode("FKBATCH1"));
  const view = new DataView(content.buffer);
  [1, 2, 3, 60].forEach((value, index) => view.setInt32(8 + 4 * index, value, true));
  view.setInt32(24, 5, true);
  view.setInt32(24 + 24, 6, true);
  view.setFloat32(24 + 48, 1, true);
  const { rows, time, batches } = readBatches(content);
  assert.deepEqual([rows, time, batches.length], [2, 3, 1]);
  assert.deepEqual([batches[0]?.tokens[0], batches[0]?.targets[0], batches[0]?.mask[0], batches[0]?.positions], [5, 6, 1, 1]);
  assert.throws(() => readBatches(content.subarray(0, content.length - 4)), /damaged/);
  assert.throws(() => readBatches(new Uint8Array(3)), /damaged/);
});
