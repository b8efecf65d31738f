import assert from "node:assert/strict";
import { test } from "node:test";
import { joined, parted, sizeOf, totalSize } from "../src/tensors.ts";

test("tensors lie one after the other, a scalar is one number", () => {
  assert.deepEqual([sizeOf([]), sizeOf([3]), sizeOf([2, 3]), sizeOf([2, 0])], [1, 3, 6, 0]);
  const shapes = [[2], [], [1, 3]];
  assert.equal(totalSize(shapes), 6);
  const whole = Float32Array.of(1, 2, 3, 4, 5, 6);
  const parts = parted(whole, shapes);
  assert.deepEqual(parts.map((part) => [...part]), [[1, 2], [3], [4, 5, 6]]);
  assert.deepEqual(joined(parts), whole);
  whole[0] = 9;
  assert.equal(parts[0]?.[0], 1);
});
