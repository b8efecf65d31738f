/**
 * The words and sentences of typed text: version 2 of the tokeniser, rule by rule as docs/tokeniser.md states it.
 *
 * The words must be those that the model was trained on, so nothing here may be "improved": a bundle's
 * tokeniser_vectors.json and the tests compare it with models/tokeniser.py.
 */

import entities from "./entities.json";

export const VERSION = 2;

// JavaScript's \s, \d and \b are not Unicode's, and it knows no \p{LB=SA}: its ranges are those of Unicode 17.
const S = "\\p{White_Space}";
const D = "\\p{Nd}";
const W = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
const EDGE = `(?:(?<=${W})(?!${W})|(?<!${W})(?=${W}))`;
const SOUTH_EAST_ASIAN =
  "\\u{e01}-\\u{e3a}\\u{e40}-\\u{e4e}\\u{e81}-\\u{e82}\\u{e84}\\u{e86}-\\u{e8a}\\u{e8c}-\\u{ea3}\\u{ea5}\\u{ea7}-\\u{ebd}" +
  "\\u{ec0}-\\u{ec4}\\u{ec6}\\u{ec8}-\\u{ece}\\u{edc}-\\u{edf}\\u{1000}-\\u{103f}\\u{1050}-\\u{108f}\\u{109a}-\\u{109f}" +
  "\\u{1780}-\\u{17d3}\\u{17d7}\\u{17dc}-\\u{17dd}\\u{1950}-\\u{196d}\\u{1970}-\\u{1974}\\u{1980}-\\u{19ab}" +
  "\\u{19b0}-\\u{19c9}\\u{19de}-\\u{19df}\\u{1a20}-\\u{1a5e}\\u{1a60}-\\u{1a7c}\\u{1aa0}-\\u{1aad}\\u{a9e0}-\\u{a9ef}" +
  "\\u{a9fa}-\\u{a9fe}\\u{aa60}-\\u{aac2}\\u{aadb}-\\u{aadf}\\u{11700}-\\u{1171a}\\u{1171d}-\\u{1172b}" +
  "\\u{1173a}-\\u{1173b}\\u{1173f}-\\u{11746}";

// The names are those of docs/tokeniser.md.
const UNSPACED = `\\p{sc=Han}\\p{sc=Hiragana}\\p{sc=Katakana}\\p{sc=Bopomofo}${SOUTH_EAST_ASIAN}`;
const NAME = `[[\\p{L}\\p{Mn}\\p{Mc}\\p{Nd}]--[${UNSPACED}]]`;
const LABEL = `${NAME}(?:[${NAME}\\-]{0,61}${NAME})?`;
const IN_ADDRESS = `[^${S}<>"${UNSPACED}]`;
const PATH = `(?:[\\/?#]${IN_ADDRESS}*)?`;
// Where case does not matter, Python's package regex takes the Turkish \u0130 for an i as well.
const LATIN_I = "[i\\u0130]";
const LATIN = "a-z\\u0130";
const DOMAINS = "com|org|net|edu|gov|mil|io|info|biz|app|dev|xyz".replaceAll("i", LATIN_I);
const SPACE = "[ \\u00a0\\u2007\\u2009\\u202f]";
const CLOSING = "[\\p{Pe}\\p{Pf}\"'*_~]";
const LETTER = "[\\p{L}--\\p{Extended_Pictographic}]";
const LETTERS = `${LETTER}(?:[[\\p{L}\\p{Mn}\\p{Mc}]--\\p{Extended_Pictographic}]|[\\u200c\\u200d](?=${LETTER}))*`;
const INNER = "['\\u00b7\\u05f3\\u05f4\\u2027]";
const NOT_AFTER_WORD = "(?<![\\p{L}\\p{Nd}])";
const NOT_BEFORE_WORD = "(?![\\p{L}\\p{Nd}])";

type Pattern = () => RegExp;

/** Returns a pattern that is made when it is first used: in a browser that is too old for it, the page can still say so. */
function pattern(source: string, flags = ""): Pattern {
  let made: RegExp | undefined;
  return () => (made ??= new RegExp(source, `gv${flags}`));
}

const ENTITY = pattern("&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});");
const INVISIBLE = pattern(
  "[\\p{Variation_Selector}\\u00ad\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u2064\\u2066-\\u2069\\ufeff]",
);
const KEYCAP = pattern("[0-9#*]\\u20e3");

const SCRUB: readonly Pattern[] = [
  // mail addresses
  pattern(`[${NAME}._%+'\\-]{1,64}@(?:${LABEL}\\.){1,8}${NAME}{2,24}`),
  // URLs; hosts of a well-known ending, or of two letters with a path, or with another dot before them
  pattern(`${EDGE}(?:[${LATIN}][${LATIN}0-9+.\\-]{1,20}:\\/\\/|www\\.)${IN_ADDRESS}+`, "i"),
  pattern(`(?<![${NAME}.@])(?:${LABEL}\\.){1,8}(?:${DOMAINS})(?::${D}{1,5})?(?!${NAME})${PATH}`, "i"),
  pattern(`(?<![${NAME}.@])(?:${LABEL}\\.){1,8}[${LATIN}]{2}(?::${D}{1,5})?\\/${IN_ADDRESS}*`, "i"),
  pattern(`(?<![${NAME}.@])(?:${NAME}[${NAME}\\-]{1,62}\\.){2,8}[${LATIN}]{2}(?![${NAME}.])`, "i"),
  // handles
  pattern(`${NOT_AFTER_WORD}@[\\p{L}\\p{Mn}\\p{Mc}\\p{Nd}_.]{2,30}`),
  // mark-up: tags without attributes, tags with them, and the placeholders of chat exports
  pattern("<\\/?[A-Za-z][A-Za-z0-9:\\-]{0,30}[ \\t]{0,9}\\/?>"),
  pattern("<[A-Za-z][A-Za-z0-9:\\-]{0,30}[ \\t]{1,9}[A-Za-z_:\\-]{1,30}[ \\t]{0,9}=[^<>]{0,400}>"),
  pattern(
    `${NOT_AFTER_WORD}<(?:[\\p{Lu}\\p{Lt}\\p{Lo}][^<>\\n]{0,60}|\\p{L}[^<>\\n:]{0,20}:[^<>\\n]{1,80})>`,
  ),
  // account numbers such as an IBAN
  pattern(
    `${NOT_AFTER_WORD}[A-Z]{2}${D}{2}(?:${SPACE}?[A-Z0-9]{4}){2,7}(?:${SPACE}?[A-Z0-9]{1,3})?${NOT_BEFORE_WORD}`,
  ),
];

// Seven and more digits in groups, as phones, cards and accounts are written; dates and thousands are kept.
const DATE = `${D}{4}-${D}{1,2}-${D}{1,2}|${D}{1,2}(?<dot>[.\\/\\-])${D}{1,2}\\k<dot>${D}{2,4}`;
const THOUSANDS = `${D}{1,3}(?<comma>[.,])${D}{3}(?:\\k<comma>${D}{3})*(?:[.,]${D}{1,2})?`;
const DIGITS = pattern(
  `(?<keep>(?<![\\p{Nd}.,:])(?:${DATE}|${THOUSANDS})(?!(?:[ .,\\/\\(\\)\\-\\u2010-\\u2015]{0,2}${D})))` +
    `|[+\\(]{0,2}${D}(?:(?:${SPACE}|[.\\-\\/\\(\\)\\u2010-\\u2015]){0,3}${D}){6,}`,
);

const SENTENCE_END = pattern(
  `(?<=[.!?])(?:${S}+|$)` +
    `|(?<=[.!?])${CLOSING}{1,3}(?:${S}+(?!\\p{Ll})|$)` +
    `|[\\n\\r\\u2028\\u2029\\u0085]+|\\.{2,}|\\u2026+|${S}\\.${S}` +
    `|[[\\p{Sentence_Terminal}\\uff0e]--[.!?]]+${CLOSING}{0,3}`,
);

const WORD = pattern(`${LETTERS}(?:${INNER}${LETTERS})*|${D}+(?:[.,:\\u066b\\u066c]${D}+)*`);
const APOSTROPHE = /[\u2018\u2019\u02bc\u0060\u00b4\uff07]/g;
const LAUGHS: readonly (readonly [string, Pattern])[] = [
  ["hahaha", pattern(`${NOT_AFTER_WORD}[ha]{0,40}(?:ha){3,}h{0,40}a{0,40}${NOT_BEFORE_WORD}`)],
  ["хахаха", pattern(`${NOT_AFTER_WORD}[ха]{0,40}(?:ха){3,}х{0,40}а{0,40}${NOT_BEFORE_WORD}`)],
];
const RUN = pattern("(\\p{L})\\1{3,}");

// What HTML 5 makes of the numbers 128 to 159: Windows-1252.
const WINDOWS_1252 =
  "\u20ac\u0081\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u008d\u017d\u008f" +
  "\u0090\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u009d\u017e\u0178";

function characterOf(code: number): string {
  if (code === 0 || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) return "\ufffd";
  if (code === 0x0d) return "\r";
  if (code >= 0x80 && code <= 0x9f) return WINDOWS_1252[code - 0x80] ?? "";
  const isControl = code < 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0c;
  const isNoncharacter = (code & 0xfffe) === 0xfffe || (code >= 0xfdd0 && code <= 0xfdef);
  return isControl || code === 0x7f || isNoncharacter ? "" : String.fromCodePoint(code);
}

const NAMED: ReadonlyMap<string, string> = new Map(Object.entries(entities));

function unescaped(entity: string): string {
  const inner = entity.slice(1, -1);
  if (!inner.startsWith("#")) return NAMED.get(inner) ?? entity;
  const isHex = inner[1] === "x" || inner[1] === "X";
  return characterOf(isHex ? Number.parseInt(inner.slice(2), 16) : Number.parseInt(inner.slice(1), 10));
}

/** Returns the message without mail addresses, handles, URLs, mark-up, account, phone and other long numbers. */
export function scrub(message: string): string {
  let text = message.replace(ENTITY(), unescaped).replace(INVISIBLE(), "").replace(KEYCAP(), " ").normalize("NFC");
  for (const each of SCRUB) text = text.replace(each(), " ");
  return text.replace(DIGITS(), (...found: unknown[]) => {
    const groups = found[found.length - 1] as { keep?: string };
    return groups.keep ?? " ";
  });
}

/** Returns the words of one sentence. */
export function wordsOf(sentence: string): string[] {
  const lower = sentence.replaceAll("\u0130", "i").toLowerCase().normalize("NFC").replace(APOSTROPHE, "'");
  let words = (lower.match(WORD()) ?? []).join(" ");
  for (const [laugh, each] of LAUGHS) words = words.replace(each(), laugh);
  words = words.replace(RUN(), "$1$1$1");
  return words === "" ? [] : words.split(" ");
}

/** Returns the pieces between sentence ends; the last one, which may be empty, is the sentence that is still open. */
function pieces(text: string): string[] {
  const found: string[] = [];
  let from = 0;
  for (const end of text.matchAll(SENTENCE_END())) {
    found.push(text.slice(from, end.index));
    from = end.index + end[0].length;
  }
  found.push(text.slice(from));
  return found;
}

/** Returns the sentences of a message as their words; sentences without a word are left out. */
export function sentences(message: string): string[][] {
  return pieces(scrub(message))
    .map(wordsOf)
    .filter((words) => words.length > 0);
}

/** Returns the words of the sentence that a message has not ended yet: what the next word is predicted from. */
export function openWords(message: string): string[] {
  return wordsOf(pieces(scrub(message)).at(-1) ?? "");
}

const ENDS_IN_WORD = pattern(`(?:${LETTER}|[\\p{Mn}\\p{Mc}]|${D})['\\u2019]?$`);

/** Returns the words before the one that is being typed, and that one as typed ("" after a space or a mark). */
export function typing(message: string): { before: string[]; half: string } {
  const words = openWords(message);
  const half = message.search(ENDS_IN_WORD()) >= 0 ? words.at(-1) : undefined;
  return half === undefined ? { before: words, half: "" } : { before: words.slice(0, -1), half };
}
