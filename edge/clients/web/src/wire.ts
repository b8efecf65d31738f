// How messages become bytes and back: msgpack arrays [type/version, field, field, ...], as orchestrator/wire.py.
// A message is declared once, with the lengths of its fields; a decoder refuses all others.

import { WireError } from "./errors.ts";
import { Malformed, Reader, Writer } from "./msgpack.ts";
import type { Bytes } from "./primitives.ts";

/** Reads and writes a value of one kind; a field with a fallback may be left out at the end of a message. */
interface Codec<T> {
  read(reader: Reader): T;
  write(writer: Writer, value: T): void;
  readonly fallback?: T;
}
export type Value<C> = C extends Codec<infer T> ? T : never;
type Fields = Record<string, Codec<unknown>>;
type Values<F extends Fields> = { [K in keyof F]: Value<F[K]> };

function checked<T>(value: T, holds: boolean): T {
  if (!holds) throw new Malformed("out of range");
  return value;
}

/** Bytes, at least `least` and at most `most` of them. */
export function bytes(least = 0, most = Infinity): Codec<Bytes> {
  return {
    read(reader) {
      const value = reader.bytes();
      return checked(value, value.length >= least && value.length <= most);
    },
    write: (writer, value) => writer.bytes(value),
  };
}

/** Exactly this many bytes. */
export const exactly = (count: number): Codec<Bytes> => bytes(count, count);

/** An integer from `least` to `most`. */
export function uint(least: number, most: number): Codec<number> {
  return {
    read(reader) {
      const value = reader.uint();
      return checked(value, value >= least && value <= most);
    },
    write: (writer, value) => writer.uint(value),
  };
}

/** A text of `least` to `most` characters (code points). */
export function text(least = 0, most = Infinity): Codec<string> {
  return {
    read(reader) {
      const value = reader.text();
      const tooShort = value.length < least;
      return checked(value, !tooShort && (value.length <= most || Array.from(value).length <= most));
    },
    write: (writer, value) => writer.text(value),
  };
}

export const float: Codec<number> = {
  read: (reader) => reader.float(),
  write: (writer, value) => writer.float(value),
};

export function listOf<T>(item: Codec<T>, most = Infinity): Codec<T[]> {
  return {
    read(reader) {
      const length = reader.arrayLength();
      checked(length, length <= most);
      const found: T[] = [];
      for (let i = 0; i < length; i += 1) found.push(item.read(reader));
      return found;
    },
    write(writer, value) {
      writer.arrayLength(value.length);
      for (const one of value) item.write(writer, one);
    },
  };
}

export const withFallback = <T>(codec: Codec<T>, fallback: T): Codec<T> => ({ ...codec, fallback });

/** A part of a message: an array of its fields. */
export function part<F extends Fields>(fields: F): Codec<Values<F>> {
  return {
    read: (reader) => readFields(reader, fields, reader.arrayLength()),
    write(writer, values) {
      writer.arrayLength(Object.keys(fields).length);
      writeFields(writer, fields, values);
    },
  };
}

/** A message: its tag, then its fields. */
export class Message<F extends Fields> {
  constructor(
    readonly tag: string,
    private readonly fields: F,
  ) {}

  encode(values: Values<F>): Bytes {
    const writer = new Writer();
    writer.arrayLength(1 + Object.keys(this.fields).length);
    writer.text(this.tag);
    writeFields(writer, this.fields, values);
    return writer.finish();
  }

  /** Returns the fields of such a message, or null for a message with another tag; throws Malformed for no message. */
  tryDecode(octets: Bytes): Values<F> | null {
    const reader = new Reader(octets);
    const length = reader.arrayLength();
    if (length === 0 || reader.text() !== this.tag) return null;
    const values = readFields(reader, this.fields, length - 1);
    reader.end();
    return values;
  }

  /** Returns the fields of the message that the bytes hold; throws WireError if they hold none, or are too many. */
  decode(octets: Bytes, mostBytes: number): Values<F> {
    const name = this.tag.slice(this.tag.lastIndexOf("/") + 1);
    if (octets.length > mostBytes) throw new WireError(`${name}: ${octets.length} bytes, at most ${mostBytes} allowed`);
    const values = orNull(() => this.tryDecode(octets));
    if (values === null) throw new WireError(`${name}: ${octets.length} bytes that are not such a message`);
    return values;
  }
}

export type Fielded<M> = M extends Message<infer F> ? Values<F> : never;

/** Returns what `read` returns, or null for bytes that are malformed. */
export function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof Malformed) return null;
    throw error;
  }
}

function readFields<F extends Fields>(reader: Reader, fields: F, length: number): Values<F> {
  const entries = Object.entries(fields);
  if (length > entries.length) throw new Malformed("too many fields");
  const values = entries.map(([name, codec], place) => {
    if (place < length) return [name, codec.read(reader)];
    if (codec.fallback === undefined) throw new Malformed("too few fields");
    return [name, codec.fallback];
  });
  return Object.fromEntries(values) as Values<F>;
}

function writeFields<F extends Fields>(writer: Writer, fields: F, values: Values<F>): void {
  for (const [name, codec] of Object.entries(fields)) codec.write(writer, values[name]);
}
