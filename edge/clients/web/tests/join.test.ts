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
import { ANSWER } from "../src/messages.ts";
import { fromHex } from "../src/primitives.ts";
import { decodeRoster, operatorOf } from "../src/roster.ts";
import { MASKED_VECTOR } from "../src/secagg_messages.ts";
import type { RunSettings } from "../src/settings.ts";
import { UPLOAD } from "../src/split_messages.ts";

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

test("an upload's first masked numbers are those that its message carries", () => {
  const sent = vectors.conversation.flatMap(({ answer }) => (answer === null ? [] : [fromHex(answer)]));
  const answers = sent.filter((octets) => textOf(octets).includes("/Answer")).map(bodyOf);
  const uploads = answers.map((body) => firstNumbers(body, 3)).filter((numbers) => numbers.length > 0);
  const body = answers.find((octets) => textOf(octets).includes("MaskedVector"))!;
  assert.deepEqual(uploads, [littleEndian(MASKED_VECTOR.decode(body, body.length).words, 3)]);
});

test("numbers that look like the beginning of a vector are numbers", () => {
  // In a split upload of 32 words, 0xc4 and the count of the bytes behind it: MessagePack's mark of 18 bytes.
  const words = new Uint8Array(128);
  words.set([0xc4, 18], 108);
  const fields = { terms: new Uint8Array(32), clientId: "ann", version: 1, sealed: [], signature: new Uint8Array(64), words };
  assert.deepEqual(firstNumbers(UPLOAD.encode(fields), 6), [0, 0, 0, 0, 0, 0]);
  assert.deepEqual(firstNumbers(UPLOAD.encode({ ...fields, words: words.subarray(108, 116) }), 6), [0x12c4, 0]);
});

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
  assert.deepEqual(firstNumbers(bodyOf(answer), 4), littleEndian(answer.slice(-4 * 177), 4));
});

const textOf = (octets: Uint8Array) => new TextDecoder("latin1").decode(octets);
const bodyOf = (octets: Uint8Array<ArrayBuffer>) => ANSWER.decode(octets, octets.length).body;
const littleEndian = (octets: Uint8Array, most: number) => [...new Uint32Array(octets.slice().buffer).slice(0, most)];
