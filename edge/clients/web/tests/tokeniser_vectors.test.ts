import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/tokeniser.json";
import { Vocabulary } from "../src/batches.ts";
import { openWords, sentences, VERSION } from "../src/tokeniser.ts";

const vocabulary = new Vocabulary(vectors.vocabulary.map((word) => `${word}\n`).join(""));

test(`${vectors.messages.length} messages are read as Python reads them`, () => {
  assert.equal(vectors.tokeniser, VERSION);
  for (const { text, sentences: expected, ids } of vectors.messages) {
    const found = sentences(text);
    assert.deepEqual(found, expected, JSON.stringify(text));
    assert.deepEqual(found.map((words) => [...vocabulary.encode(words)]), ids, JSON.stringify(text));
  }
});

test(`${vectors.key_strokes.length} fields of text leave the same words open`, () => {
  for (const { typed, open_words } of vectors.key_strokes) assert.deepEqual(openWords(typed), open_words, JSON.stringify(typed));
});
