import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/graph.json";
import { fewestSurvivors, graphParameters } from "../src/graph.ts";
import { WeakParameters } from "../src/errors.ts";
import { policyOf } from "./vectors.ts";

for (const [name, { policy, cohorts }] of Object.entries(vectors)) {
  test(`the degree and threshold of ${cohorts.length} cohorts: ${name}`, () => {
    for (const [size, degree, threshold] of cohorts as [number, number?, number?][]) {
      if (degree === undefined) assert.throws(() => graphParameters(size, policyOf(policy)), WeakParameters);
      else assert.deepEqual(graphParameters(size, policyOf(policy)), { numClients: size, degree, threshold });
    }
  });
}

test("a sum holds two honest vectors, whomever of the roster the server invites", () => {
  assert.deepEqual([3, 10, 100, 1000].map((size) => fewestSurvivors(size, 0.05)), [3, 3, 7, 52]);
});
