import assert from "node:assert/strict";
import { test } from "node:test";
import { isBetter, largestDifference } from "../src/trainer.ts";

const recall = (hits1: number, hits3: number) => ({ words: 10, hits1, hits3 });

test("a trained model stays only if it predicts more of what was held out", () => {
  assert.equal(isBetter(recall(3, 4), recall(2, 9)), true);
  assert.equal(isBetter(recall(2, 5), recall(2, 4)), true);
  assert.equal(isBetter(recall(2, 4), recall(2, 4)), false);
  assert.equal(isBetter(recall(1, 9), recall(2, 4)), false);
});

test("no comparison passes where a weight is none", () => {
  assert.equal(largestDifference(Float32Array.of(1, 2), Float32Array.of(1.5, 2)), 0.5);
  assert.ok(Number.isNaN(largestDifference(Float32Array.of(1, Number.NaN, 2), Float32Array.of(1, 1, 2))));
  assert.ok(Number.isNaN(largestDifference(Float32Array.of(1), Float32Array.of(1, 1))));
});
