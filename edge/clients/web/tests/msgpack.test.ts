import assert from "node:assert/strict";
import { test } from "node:test";
import { Malformed, Reader, Writer } from "../src/msgpack.ts";
import { hex } from "../src/primitives.ts";

test("integers take the shortest form, and every longer one is read", () => {
  const writer = new Writer();
  for (const value of [0, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1]) writer.uint(value);
  assert.equal(hex(writer.finish()), "007fcc80ccffcd0100cdffffce00010000ceffffffff");
  for (const [octets, value] of [
    [[0xcf, 0, 0, 0, 0, 0, 0, 0, 5], 5],
    [[0xd0, 5], 5],
    [[0xd3, 0, 0, 0, 1, 0, 0, 0, 0], 2 ** 32],
  ] as const) {
    assert.equal(new Reader(Uint8Array.from(octets)).uint(), value);
  }
});

test("what is cut off, negative or of another kind is malformed", () => {
  for (const octets of [[], [0xcc], [0xd0, 0x80], [0xd0], [0xff], [0xcf, 255, 255, 255, 255, 255, 255, 255, 255], [0xc3]]) {
    assert.throws(() => new Reader(Uint8Array.from(octets)).uint(), Malformed);
  }
  for (const octets of [[0xc4, 2, 1], [0xa1, 0x61], [0xc6, 255, 255, 255, 255, 0]]) {
    assert.throws(() => new Reader(Uint8Array.from(octets)).bytes(), Malformed);
  }
  for (const octets of [[0xa1, 0xff], [0xa3, 0xed, 0xa0, 0x80], [0xc4, 1, 0x61], [0xa2, 0x61]]) {
    assert.throws(() => new Reader(Uint8Array.from(octets)).text(), Malformed);
  }
});
