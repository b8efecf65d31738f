import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/encoder.json";
import schema from "../../../conformance/settings.json";
import { Encoder, buildEncoder, secureUniform } from "../src/encoder.ts";
import { fromHex } from "../src/primitives.ts";
import type { Settings } from "../src/settings.ts";
import { Pcg64 } from "./pcg64.ts";

const rounding = () => new Pcg64(vectors.draws.entropy.map(BigInt));

test("the draws are numpy's", () => {
  const draws = rounding();
  assert.deepEqual([...draws.float32s(7)], vectors.draws.float32);
  assert.deepEqual([draws.float64(), draws.float64()], vectors.draws.float64);
  assert.deepEqual([...draws.float32s(3)], vectors.draws.then_float32);
});

for (const [name, fields] of Object.entries(vectors.cases)) {
  test(`an update encodes to the same vector: ${name}`, () => {
    const encoder = new Encoder(fields.clip_norm, fields.num_clients, fields.max_weight, vectors.shapes);
    assert.equal(encoder.bits, fields.bits);
    const delta = fields.delta.map((tensor) => new Float32Array(fromHex(tensor).buffer));
    assert.deepEqual([...encoder.encode(delta, fields.weight, rounding())], fields.vector);
  });
}

test("a run's settings give the same encoder", () => {
  for (const { num_words, settings, ...expected } of vectors.runs) {
    const model = defaults()["model"] as unknown as { vocabulary_size: number; embedding_size: number; num_cells: number };
    const size = { vocabularySize: Math.min(model.vocabulary_size, num_words), embeddingSize: model.embedding_size, numCells: model.num_cells };
    const built = buildEncoder(defaults(settings as Record<string, unknown>) as unknown as Settings, size);
    const found = { clip_norm: built.clipNorm, max_weight: built.maxWeight, bits: built.bits, num_slots: built.numSlots };
    assert.deepEqual(found, expected);
  }
});

test("what is not finite, too heavy or of another shape is the caller's error", () => {
  const encoder = new Encoder(1, 5, 2, [[2]]);
  for (const [delta, weight] of [[[NaN, 0], 1], [[Infinity, 0], 1], [[0, 0], 3], [[0, 0], NaN], [[0, 0], -1], [[0], 1]] as const) {
    assert.throws(() => encoder.encode([Float32Array.from(delta)], weight, secureUniform), RangeError);
  }
});

test("a clip norm, and a cohort, that a grid can be made for", () => {
  assert.ok(new Encoder(2 ** -96, 2 ** 30, 1, [[1]]));
  for (const clipNorm of [2 ** -97, 0, -1, NaN, Infinity]) assert.throws(() => new Encoder(clipNorm, 5, 1, [[1]]), RangeError);
  assert.throws(() => new Encoder(1, 2 ** 30 + 1, 1, [[1]]), RangeError);
});

test("the browser's draws lie in 0..1, on the grids of float32 and float64, and spread", () => {
  const drawn = secureUniform.float32s(20_000);
  assert.ok(drawn.every((value) => value >= 0 && value < 1 && Number.isInteger(value * 2 ** 24)));
  const mean = drawn.reduce((sum, value) => sum + value, 0) / drawn.length;
  assert.ok(Math.abs(mean - 0.5) < 0.02); // ten standard deviations
  for (let i = 0; i < 100; i += 1) {
    const value = secureUniform.float64();
    assert.ok(value >= 0 && value < 1 && Number.isInteger(value * 2 ** 53));
  }
});

/** The default settings, with some changed: {"section.name": value}. */
function defaults(changed: Record<string, unknown> = {}): Record<string, Record<string, unknown>> {
  const sections = Object.entries(schema.sections).map(([section, settings]) => {
    const own = Object.entries(settings).map(([name, described]) => [name, changed[`${section}.${name}`] ?? described.default]);
    return [section, Object.fromEntries(own)];
  });
  return Object.fromEntries(sections);
}
