// Stands for node:assert/strict in a browser, as far as the tests need it.

type Expected = RegExp | (new (...rest: never[]) => Error) | ((error: unknown) => boolean);

const shown = (value: unknown): string =>
  JSON.stringify(value, (_, own: unknown) => (typeof own === "bigint" ? `${own}n` : own === undefined ? "undefined" : own)) ?? "undefined";

function ok(value: unknown, message?: string): asserts value {
  if (!value) throw new Error(message ?? "not true");
}

function equal(found: unknown, expected: unknown, message = ""): void {
  ok(Object.is(found, expected), `${message} ${shown(found)}, expected ${shown(expected)}`);
}

/** Compares what JSON shows of both, which is all that the tests' values hold. */
function deepEqual(found: unknown, expected: unknown, message = ""): void {
  equal(shown(found), shown(expected), message);
}

function notEqual(found: unknown, expected: unknown): void {
  ok(!Object.is(found, expected), `${shown(found)} twice`);
}

function fail(message: string): never {
  throw new Error(message);
}

function match(text: string, pattern: RegExp): void {
  ok(pattern.test(text), `${text} does not match ${pattern}`);
}

function thrown(error: unknown, expected: Expected): void {
  if (expected instanceof RegExp) match(String(error), expected);
  else if (expected.prototype instanceof Error) ok(error instanceof (expected as new () => Error), String(error));
  else ok((expected as (error: unknown) => boolean)(error), String(error));
}

function throws(work: () => unknown, expected: Expected): void {
  try {
    work();
  } catch (error) {
    return thrown(error, expected);
  }
  ok(false, "nothing was thrown");
}

async function rejects(work: Promise<unknown> | (() => Promise<unknown>), expected: Expected): Promise<void> {
  try {
    await (typeof work === "function" ? work() : work);
  } catch (error) {
    return thrown(error, expected);
  }
  ok(false, "nothing was thrown");
}

export default { ok, equal, notEqual, fail, deepEqual, match, throws, rejects };
