// The part of msgpack that fedkeys' messages need: arrays, bytes, text, integers that are not negative, floats.
// Its bytes are those of Python's msgspec.

import type { Bytes } from "./primitives.ts";

/** The bytes are no msgpack of this part. Whoever reads a message turns it into a WireError that names the message. */
export class Malformed extends Error {}

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const TWO_TO_32 = 2 ** 32;

/** Reads values one after the other. Byte strings are views of the input. */
export class Reader {
  private at = 0;
  private readonly view: DataView;

  constructor(private readonly octets: Bytes) {
    this.view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  }

  /** Returns the length of the array that begins here. */
  arrayLength(): number {
    const code = this.bigEndian(1);
    if (code >= 0x90 && code < 0xa0) return code & 15;
    if (code === 0xdc) return this.bigEndian(2);
    if (code === 0xdd) return this.bigEndian(4);
    throw new Malformed("no array");
  }

  bytes(): Bytes {
    const code = this.bigEndian(1);
    if (code === 0xc4) return this.take(this.bigEndian(1));
    if (code === 0xc5) return this.take(this.bigEndian(2));
    if (code === 0xc6) return this.take(this.bigEndian(4));
    throw new Malformed("no bytes");
  }

  text(): string {
    const code = this.bigEndian(1);
    if (code >= 0xa0 && code < 0xc0) return this.decoded(code & 31);
    if (code === 0xd9) return this.decoded(this.bigEndian(1));
    if (code === 0xda) return this.decoded(this.bigEndian(2));
    if (code === 0xdb) return this.decoded(this.bigEndian(4));
    throw new Malformed("no text");
  }

  /** Returns an integer; one written with a sign is fine, a negative one is not. */
  uint(): number {
    const code = this.bigEndian(1);
    if (code < 0x80) return code;
    if (code >= 0xcc && code <= 0xcf) return this.bigEndian(1 << (code - 0xcc));
    if (code >= 0xd0 && code <= 0xd3) {
      const width = 1 << (code - 0xd0);
      if (this.at < this.octets.length && this.view.getInt8(this.at) < 0) throw new Malformed("a negative integer");
      return this.bigEndian(width);
    }
    throw new Malformed("no integer");
  }

  /** Returns a float; an integer counts as one. */
  float(): number {
    const code = this.octets[this.at];
    if (code !== 0xca && code !== 0xcb) return this.uint();
    const width = code === 0xca ? 4 : 8;
    const start = this.skip(1 + width) + 1;
    return width === 4 ? this.view.getFloat32(start) : this.view.getFloat64(start);
  }

  /** Throws if bytes are left. */
  end(): void {
    if (this.at !== this.octets.length) throw new Malformed("bytes after the end");
  }

  private skip(count: number): number {
    if (count > this.octets.length - this.at) throw new Malformed("cut off");
    const start = this.at;
    this.at += count;
    return start;
  }

  private take(count: number): Bytes {
    const start = this.skip(count);
    return this.octets.subarray(start, start + count);
  }

  private decoded(count: number): string {
    try {
      return fromUtf8.decode(this.take(count));
    } catch (error) {
      if (error instanceof Malformed) throw error;
      throw new Malformed("text that is no UTF-8");
    }
  }

  private bigEndian(width: number): number {
    const start = this.skip(width);
    if (width === 1) return this.view.getUint8(start);
    if (width === 2) return this.view.getUint16(start);
    if (width === 4) return this.view.getUint32(start);
    const value = this.view.getUint32(start) * TWO_TO_32 + this.view.getUint32(start + 4);
    if (!Number.isSafeInteger(value)) throw new Malformed("an integer beyond 53 bits");
    return value;
  }
}

/** Collects values; `finish` returns their bytes. */
export class Writer {
  private readonly parts: Uint8Array[] = [];

  arrayLength(length: number): void {
    if (length < 16) this.parts.push(Uint8Array.of(0x90 | length));
    else this.head(length, undefined, 0xdc, 0xdd);
  }

  bytes(value: Uint8Array): void {
    this.head(value.length, 0xc4, 0xc5, 0xc6);
    this.parts.push(value);
  }

  text(value: string): void {
    const encoded = utf8.encode(value);
    if (encoded.length < 32) this.parts.push(Uint8Array.of(0xa0 | encoded.length));
    else this.head(encoded.length, 0xd9, 0xda, 0xdb);
    this.parts.push(encoded);
  }

  uint(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value >= TWO_TO_32) throw new RangeError(`no uint32: ${value}`);
    if (value < 0x80) this.parts.push(Uint8Array.of(value));
    else this.head(value, 0xcc, 0xcd, 0xce);
  }

  float(value: number): void {
    const part = new Uint8Array(9);
    part[0] = 0xcb;
    new DataView(part.buffer).setFloat64(1, value);
    this.parts.push(part);
  }

  finish(): Bytes {
    const whole = new Uint8Array(this.parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  /** A code and a number of one, two or four bytes: the shortest that the number fits. */
  private head(value: number, code8: number | undefined, code16: number, code32: number): void {
    if (code8 !== undefined && value < 1 << 8) this.parts.push(Uint8Array.of(code8, value));
    else if (value < 1 << 16) this.parts.push(Uint8Array.of(code16, value >> 8, value & 255));
    else {
      const part = new Uint8Array(5);
      part[0] = code32;
      new DataView(part.buffer).setUint32(1, value);
      this.parts.push(part);
    }
  }
}
