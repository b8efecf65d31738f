import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/participant.json";
import rosters from "../../../conformance/roster.json";
import split from "../../../conformance/split.json";
import { draw, seeded } from "../src/batches.ts";
import type { Manifest } from "../src/bundle.ts";
import { DemandRefused, KeysError } from "../src/errors.ts";
import { fewestSurvivors } from "../src/graph.ts";
import { requireFit, runIds, signedHelpers } from "../src/join.ts";
import { firstNumbers } from "../src/left.ts";
import { fromHex } from "../src/primitives.ts";
import { decodeRoster, operatorOf } from "../src/roster.ts";
import type { RunSettings } from "../src/settings.ts";

const WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "see", "you", "there"];
const RUN = {
  words: WORDS,
  size: { vocabularySize: 6, embeddingSize: 2, numCells: 3 },
  settings: { data: { max_words: 5 }, client: { batch_size: 4, clip_norm: 1 } },
} as unknown as RunSettings;
const MODEL = { vocabulary_size: 6, embedding_size: 2, num_cells: 3, max_words: 5 };
const bundle = (model: object, clip_norm = 1) => ({
  manifest: { model } as unknown as Manifest,
  plan: { epochs: 1, batch_size: 4, learning_rate: 1, clip_norm, max_sentences: 9 },
});

test("a run is trained only if the bundle's model, batch, clip and words are the run's", () => {
  const words = WORDS.slice(0, 6);
  requireFit(RUN, bundle(MODEL), 4, words);
  assert.throws(() => requireFit(RUN, bundle(MODEL), 8, words), DemandRefused);
  assert.throws(() => requireFit(RUN, bundle(MODEL, 0), 4, words), DemandRefused);
  assert.throws(() => requireFit(RUN, bundle({ ...MODEL, num_cells: 4 }), 4, words), DemandRefused);
  assert.throws(() => requireFit(RUN, bundle(MODEL), 4, [...words.slice(0, 5), "me"]), DemandRefused);
});

test("words beyond the model's rows, special and unknown ones are <unk>", () => {
  assert.deepEqual(runIds(RUN)("see you there <bos> elsewhere"), [4, 5, 3, 3, 3]);
});

test("a round's batches hold so many sentences, each once an epoch", () => {
  const sentences = Array.from({ length: 10 }, (_, index) => [4 + index]);
  for (const length_buckets of [1, 3]) {
    const batches = draw(sentences, { epochs: 2, max_sentences: 7, length_buckets }, 4, 3, seeded(1));
    assert.deepEqual(batches.map(({ examples }) => examples).sort(), [3, 3, 4, 4]);
    const seen = batches.flatMap(({ targets, examples }) => Array.from({ length: examples }, (_, row) => targets[3 * row]));
    const counts = new Map<number | undefined, number>();
    for (const id of seen) counts.set(id, (counts.get(id) ?? 0) + 1);
    assert.deepEqual([...counts.values()], Array(7).fill(2));
  }
});

test("buckets put sentences of like length together", () => {
  const sentences = Array.from({ length: 12 }, (_, index) => Array(1 + (index % 3) * 4).fill(9));
  const batches = draw(sentences, { epochs: 1, max_sentences: 99, length_buckets: 3 }, 4, 12, seeded(1));
  assert.deepEqual(batches.map(({ positions }) => positions).sort((one, other) => one - other), [8, 24, 40]);
});

test("the fewest survivors are Python's", () => {
  assert.deepEqual([3, 10, 100, 1000].map((enrolled) => fewestSurvivors(enrolled, 0.05)), [3, 3, 7, 52]);
});

test("an upload's first masked numbers are found in its first bytes", () => {
  const answers = vectors.conversation.flatMap(({ answer }) => (answer === null ? [] : [fromHex(answer)]));
  const uploads = answers.filter((answer) => new TextDecoder("latin1").decode(answer).includes("MaskedVector"));
  assert.equal(uploads.length, 1);
  const upload = uploads[0] as Uint8Array;
  const at = Buffer.from(upload).lastIndexOf(vectorOf(upload));
  const wanted = [0, 4, 8].map((offset) => Buffer.from(upload).readUInt32LE(at + offset));
  assert.deepEqual(firstNumbers(upload.subarray(0, 160), upload.length, 3), wanted);
  assert.deepEqual(firstNumbers(upload.subarray(0, 20), upload.length, 3), []);
});

// The vector's bytes: what is left after the sender's index, which follows the session.
function vectorOf(upload: Uint8Array): Buffer {
  const text = Buffer.from(upload);
  const session = text.indexOf(Buffer.from([0xc4, 32]), text.indexOf("MaskedVector"));
  const sender = session + 2 + 32;
  const lengthBytes = { 0xc4: 1, 0xc5: 2, 0xc6: 4 }[text[sender + 1] as 0xc4 | 0xc5 | 0xc6];
  return text.subarray(sender + 2 + lengthBytes);
}

test("a browser seals for the helpers that its operator signed, and for nobody else", async () => {
  const roster = await decodeRoster(rosters.taken[0]!.content);
  const operator = operatorOf(rosters.operator.key, rosters.operator.roster_id)!;
  assert.deepEqual(signedHelpers(roster, operator), roster.helpers);
  assert.equal(roster.helpers.length, 1);
  assert.throws(() => signedHelpers(roster, undefined), KeysError); // whoever hands it on could have named them
  assert.throws(() => signedHelpers({ ...roster, helpers: [] }, operator), KeysError);
});

test("the first masked numbers of a split upload are those of its vector", () => {
  const answer = fromHex(split.participant.conversation[1]!.answer!);
  const words = new Uint32Array(answer.slice(-4 * 177).buffer);
  assert.deepEqual(firstNumbers(answer.slice(0, 1024), answer.length, 4), [...words.slice(0, 4)]);
});
