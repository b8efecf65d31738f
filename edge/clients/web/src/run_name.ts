// The name of a run in the split sum, as orchestrator/run/identity.py: a digest of its settings, seed included, and its words.
// Python digests its settings as it writes them, so the text that the server sent is taken as it is, and only what does not
// enter the name is cut out: numbers that JavaScript would write otherwise stay.

import schema from "../../../conformance/settings.json";
import { WireError } from "./errors.ts";
import { ascii, hex, sha256, type Bytes } from "./primitives.ts";

const VALUE = String.raw`"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false`;
const NAMING = schema.name;
const LEFT_OUT = new Set<string>(NAMING.left_out);
const LEFT_OUT_AT: Record<string, unknown> = NAMING.left_out_at;
const REPLACED: Record<string, string> = NAMING.replaced;
type Described = Record<string, { readonly default: unknown }>;
const SECTIONS: Record<string, Described> = schema.sections;

/** Returns the 32 bytes that name the run with these settings and words; throws WireError for settings in another writing. */
export async function runName(config: Bytes, words: readonly string[]): Promise<Bytes> {
  const settings = await sha256(ascii(named(new TextDecoder().decode(config))));
  const list = await sha256(ascii(words.map((word) => `${word}\n`).join("")));
  return sha256(ascii(`${hex(settings)} ${hex(list)}`));
}

/** Returns the settings' text without what does not enter the name. */
function named(config: string): string {
  const text = new Cursor(config);
  const found = [`"seed":${text.next(/\{"seed":(\d+)/y)}`];
  for (const [section, described] of Object.entries(SECTIONS)) {
    text.next(new RegExp(`,(${JSON.stringify(section)}):\\{`, "y"));
    const values = Object.keys(described).map((name, place): [string, string] => {
      const comma = place > 0 ? "," : "";
      return [name, text.next(new RegExp(`${comma}${JSON.stringify(name)}:(${VALUE})`, "y"))];
    });
    text.next(/(\})/y);
    if (section === "runtime") found.push(`"runtime":${NAMING.runtime}`);
    else if (!isLeftOut(section, values, described)) found.push(`"${section}":{${kept(section, values, described).join(",")}}`);
  }
  text.end();
  return `{${found.join(",")}}`;
}

const isLeftOut = (section: string, values: readonly [string, string][], described: Described): boolean =>
  LEFT_OUT.has(section) && values.every(([name, value]) => JSON.parse(value) === described[name]!.default);

function kept(section: string, values: readonly [string, string][], described: Described): string[] {
  return values.flatMap(([name, value]) => {
    const setting = `${section}.${name}`;
    const parsed: unknown = JSON.parse(value);
    if (LEFT_OUT.has(setting) && parsed === described[name]!.default) return [];
    if (setting in LEFT_OUT_AT && parsed === LEFT_OUT_AT[setting]) return [];
    return [`"${name}":${setting in REPLACED ? JSON.stringify(REPLACED[setting]) : value}`];
  });
}

/** A place in a text. */
class Cursor {
  private at = 0;

  constructor(private readonly text: string) {}

  /** Returns what the pattern's group holds here, and goes on behind it. */
  next(pattern: RegExp): string {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[1];
    if (found === undefined) throw otherWriting();
    this.at = pattern.lastIndex;
    return found;
  }

  end(): void {
    if (this.text.slice(this.at) !== "}") throw otherWriting();
  }
}

const otherWriting = (): WireError => new WireError("the server's configuration is not written as this fedkeys writes it");
