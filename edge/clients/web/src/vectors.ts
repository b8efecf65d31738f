/** Reads a bundle's tokeniser_vectors.json: made-up texts, and the words and ids that this tokeniser must make of them. */

import type { Vocabulary } from "./batches.ts";
import type { VectorCheck } from "./rpc.ts";
import { openWords, sentences, VERSION } from "./tokeniser.ts";

interface Vectors {
  tokeniser: number;
  messages: { text: string; sentences: string[][]; ids: number[][] }[];
  key_strokes: { typed: string; open_words: string[] }[];
}

const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

/** Returns how many texts were read alike, and the first that was not. */
export function checkVectors(file: Uint8Array, vocabulary: Vocabulary): VectorCheck {
  const vectors = JSON.parse(new TextDecoder().decode(file)) as Vectors;
  const wrongMessage = vectors.messages.find(({ text, sentences: wanted, ids }) => {
    const found = sentences(text);
    return !same(found, wanted) || !same(found.map((words) => vocabulary.encode(words)), ids);
  });
  const wrongStroke = vectors.key_strokes.find(({ typed, open_words }) => !same(openWords(typed), open_words));
  const isOther = vectors.tokeniser !== VERSION;
  const wrong = isOther ? `tokeniser ${vectors.tokeniser}` : (wrongMessage?.text ?? wrongStroke?.typed ?? null);
  return { messages: vectors.messages.length, keyStrokes: vectors.key_strokes.length, wrong };
}
