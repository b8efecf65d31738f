/** What an answer that leaves looks like from outside. */

const BINARY: readonly [number, number][] = [
  [0xc6, 4], // MessagePack's markers of bytes, and how many bytes their length takes
  [0xc5, 2],
  [0xc4, 1],
];

/**
 * Returns the first masked numbers of an upload, from its first bytes; none if these end before.
 *
 * The vector ends the message, so it begins after the last marker whose length is what is left of the message. The numbers
 * are little-endian, as Python's encoder writes them.
 *
 * @param head the message's first bytes. @param bytes the message's length.
 */
export function firstNumbers(head: Uint8Array, bytes: number, most: number): number[] {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const lengthAt = (at: number, size: number): number => {
    if (at + size > head.length) return Number.NaN; // cut off: equal to nothing
    return size === 4 ? view.getUint32(at) : size === 2 ? view.getUint16(at) : view.getUint8(at);
  };
  let start = -1;
  for (let at = 0; at < head.length; at++) {
    for (const [marker, size] of BINARY) {
      const body = at + 1 + size;
      if (head[at] === marker && body + lengthAt(at + 1, size) === bytes) start = body;
    }
  }
  const numbers: number[] = [];
  for (let at = start; start >= 0 && at + 4 <= head.length && numbers.length < most; at += 4) {
    numbers.push(view.getUint32(at, true));
  }
  return numbers;
}
