/** What an answer that leaves looks like from outside. */

import { WireError } from "./errors.ts";
import type { Bytes } from "./primitives.ts";
import { MASKED_VECTOR } from "./secagg_messages.ts";
import { UPLOAD } from "./split_messages.ts";

/**
 * Returns the first masked numbers of an upload, at most so many; none if the answer is no upload.
 *
 * The numbers are little-endian, as Python's encoder writes them.
 *
 * @param body the answer's body: a message of the sum.
 */
export function firstNumbers(body: Bytes, most: number): number[] {
  for (const message of [MASKED_VECTOR, UPLOAD]) {
    try {
      const { words } = message.decode(body, body.length);
      const view = new DataView(words.buffer, words.byteOffset, words.byteLength);
      return Array.from({ length: Math.min(most, words.length >> 2) }, (_, place) => view.getUint32(4 * place, true));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
    }
  }
  return [];
}
