/**
 * Reads a file that a person imports: a message on each line, JSON Lines, or a chat of several people as WhatsApp or
 * Telegram exports it. What is an exported chat is decided as models/text_sources.py does, which refuses one: here the
 * person says which name is theirs, and nobody else's messages are kept.
 */

import { Fault } from "./faults.ts";

/** What one of several people wrote. */
export interface Person {
  readonly name: string;
  readonly messages: string[];
}

/** One person's messages, or several people's: of these the person is one. */
export type Imported = { readonly messages: string[] } | { readonly people: Person[] };

const MOST_BYTES = 1 << 26;
const PACKED: readonly (readonly number[])[] = [
  [0x1f, 0x8b], // gzip
  [0x50, 0x4b, 0x03, 0x04], // zip, as WhatsApp on an iPhone
  [0x42, 0x5a, 0x68], // bzip2
  [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], // xz
  [0x28, 0xb5, 0x2f, 0xfd], // zstd
];
const LINE_END = /\r\n|\n|\r/;
const HTML = /^\s*<(?:!doctype\s+html|html)\b/i;

// White space and digits are Python's, which are not JavaScript's.
const SPACES = "\\p{White_Space}\\x1c-\\x1f";
const S = `[${SPACES}]`;
const D = "\\p{Nd}";
const TIME =
  `^[\\u200e\\u200f]?\\[?${D}{1,4}[.\\/\\-]${D}{1,2}[.\\/\\-]${D}{1,4},?${S}{1,3}(?:at )?` +
  `${D}{1,2}[:.]${D}{2}[^\\]:\\-]{0,12}(?::${D}{2}[^\\]:\\-]{0,12})?(?:\\]| -) ?`;
const MARKS = /[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** What WhatsApp writes in a message's place. Its <...> are no words anyway, and on iPhones such a line begins with a mark. */
const PLACEHOLDER =
  /^(?:\u200e|null$|(?:this message was deleted|you deleted this message|diese nachricht wurde gelöscht|du hast diese nachricht gelöscht)\.?$)|\((?:file attached|datei angehängt)\)$/i;

/** Reads a file. Throws Fault if it can't be read, in one sentence that says what to do. */
export function readImport(content: Uint8Array): Imported {
  if (content.length > MOST_BYTES) throw new Fault("importLarge", String(MOST_BYTES >> 20));
  if (PACKED.some((magic) => magic.every((octet, at) => content[at] === octet))) throw new Fault("importPacked");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    throw new Fault("importUnread");
  }
  if (text.includes("\0")) throw new Fault("importUnread");
  if (HTML.test(text)) throw new Fault("importHtml");
  if (text.trimStart().startsWith("{")) return { people: inJson(text) };
  const lines = text.trimEnd().split(LINE_END);
  const people = inChat(lines);
  return people.length > 0 ? { people } : { messages: lines };
}

/** Returns who wrote what in an exported chat, in the order of their first messages; nobody if the lines are no such chat. */
export function inChat(lines: readonly string[]): Person[] {
  const [head, time] = [new RegExp(`${TIME}(?<who>[^:\\n]{1,60}):${S}`, "v"), new RegExp(TIME, "v")];
  const typedAny = new RegExp(`[^${SPACES}]`, "v"); // not ^S*$: a match of millions of spaces fills the stack
  const people = new Map<string, string[]>();
  let heads = 0;
  let typed = 0;
  let open: string[] = []; // the messages of whoever wrote last
  for (const line of lines) {
    if (!typedAny.test(line)) continue;
    typed++;
    const found = head.exec(line);
    if (found !== null) {
      heads++;
      const name = (found.groups?.["who"] ?? "").replace(MARKS, "").trim();
      open = people.get(name) ?? [];
      people.set(name, open);
      open.push(line.slice(found[0].length));
    } else if (time.test(line)) open = []; // the program's own line: nobody typed it
    else if (open.length > 0) open[open.length - 1] += `\n${line}`;
  }
  if (heads < 2 || 2 * heads < typed) return [];
  return [...people].map(([name, messages]) => ({ name, messages: messages.filter((message) => !PLACEHOLDER.test(message)) }));
}

/** Returns who wrote what in JSON: JSON Lines as fedkeys reads them, or one chat as Telegram exports it. */
function inJson(text: string): Person[] {
  const people = new Map<string, Person>();
  for (const { id, name, message } of jsonLines(text) ?? telegram(text)) {
    const person = people.get(id) ?? { name, messages: [] };
    person.messages.push(message);
    people.set(id, person);
  }
  if (people.size === 0) throw new Fault("importJson");
  return [...people.values()];
}

interface Said {
  readonly id: string;
  readonly name: string;
  readonly message: string;
}

/** Returns the messages of JSON Lines, or null if the first line is no such object. */
function jsonLines(text: string): Said[] | null {
  const lines = text.split(LINE_END).filter((line) => line.trim() !== "");
  if (lines[0]?.trimEnd().endsWith("}") !== true || isTelegram(parsed(lines[0]))) return null;
  return lines.map((line) => {
    const { client_id: id, text: message } = asObject(parsed(line));
    if (typeof id !== "string" || id === "" || typeof message !== "string") throw new Fault("importJson");
    return { id, name: id, message };
  });
}

/** Returns what people typed in a chat of Telegram: neither what its program wrote, nor what they passed on. */
function telegram(text: string): Said[] {
  const chat = parsed(text);
  if (!isTelegram(chat)) throw new Fault("importJson");
  return chat.messages.map(asObject).flatMap(({ type, from, from_id: id, forwarded_from, via_bot, text: message }) => {
    const isTyped = type === "message" && forwarded_from === undefined && via_bot === undefined;
    if (!isTyped || typeof from !== "string" || typeof id !== "string") return [];
    const pieces = Array.isArray(message) ? message : [message];
    const typed = pieces.map((piece) => (typeof piece === "string" ? piece : asObject(piece)["text"]));
    return [{ id, name: from, message: typed.filter((piece) => typeof piece === "string").join("") }];
  });
}

const isTelegram = (value: unknown): value is { messages: unknown[] } =>
  typeof value === "object" && value !== null && "messages" in value && Array.isArray(value.messages);

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new Fault("importJson");
  }
}

const asObject = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
