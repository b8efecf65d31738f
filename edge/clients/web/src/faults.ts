/** What goes wrong on the page or in its worker, and is told to the person. */

import type { Key } from "./strings.ts";

type Code<K> = K extends `error.${infer Name}` ? Name : never;
export type FaultCode = Code<Key>;

/** A fault whose sentence strings/*.json hold as `error.CODE`; `detail` is what that names. */
export class Fault extends Error {
  override name = "Fault";
  constructor(
    readonly code: FaultCode,
    readonly detail = "",
  ) {
    super(detail === "" ? code : `${code}: ${detail}`);
  }
}

/** Returns any error as a fault. */
export function asFault(error: unknown): Fault {
  if (error instanceof Fault) return error;
  return new Fault("other", error instanceof Error ? error.message : String(error));
}
