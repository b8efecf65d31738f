/** The page's words, from strings/LANGUAGE.json. */

import type en from "../static/strings/en.json";

export type Key = keyof typeof en;
type Plural<K> = K extends `${infer Base}.other` ? Base : never;
type PluralKey = Plural<Key>;
export type Values = Record<string, string | number>;

export const LANGUAGES = ["en", "de"] as const;
export type Language = (typeof LANGUAGES)[number];

const SUPERSCRIPT: Record<string, string> = Object.fromEntries([..."-0123456789"].map((sign, at) => [sign, "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"[at] ?? sign]));
const PLACE = /\{(\w+)\}/g;

/** One language: its sentences, and numbers as it writes them. */
export class Strings {
  private readonly plural: Intl.PluralRules;

  constructor(
    readonly language: Language,
    private readonly table: Record<string, string>,
  ) {
    this.plural = new Intl.PluralRules(language);
  }

  /** Returns a sentence with its values put in; numbers are written as the language writes them. */
  say(key: Key, values: Values = {}): string {
    return this.filled(this.table[key] ?? key, values);
  }

  /** Returns the sentence for a number of things, which stands in it as {n}. */
  count(key: PluralKey, n: number, values: Values = {}): string {
    const form = this.table[`${key}.${this.plural.select(n)}`] ?? this.table[`${key}.other`] ?? key;
    return this.filled(form, { n, ...values });
  }

  number(value: number, digits = 0): string {
    return value.toLocaleString(this.language, { maximumFractionDigits: digits, minimumFractionDigits: digits });
  }

  percent(share: number): string {
    return share.toLocaleString(this.language, { style: "percent", maximumFractionDigits: 1 });
  }

  /** Returns a number as a power of ten; it does not break across lines. */
  scientific(value: number, digits: number): string {
    const [mantissa = "", exponent] = value.toExponential(digits).split("e");
    if (exponent === undefined) return mantissa; // no finite number
    const raised = [...exponent.replace("+", "")].map((sign) => SUPERSCRIPT[sign] ?? sign).join("");
    return `${this.number(Number(mantissa), digits)}\u00a0×\u00a010${raised}`;
  }

  /** Returns a day, YYYY-MM-DD, as the language writes it. */
  date(day: string): string {
    return new Date(`${day}T12:00`).toLocaleDateString(this.language, { dateStyle: "long" });
  }

  has(key: string): key is Key {
    return key in this.table;
  }

  private filled(sentence: string, values: Values): string {
    return sentence.replace(PLACE, (whole, name: string) => {
      const value = values[name];
      return value === undefined ? whole : typeof value === "number" ? this.number(value) : value;
    });
  }
}

/** Returns the language to begin with: the one chosen before, or the first of the browser's that there is. */
export function preferred(chosen: string | null, wishes: readonly string[]): Language {
  const known = (tag: string | null): Language | undefined =>
    LANGUAGES.find((language) => tag?.toLowerCase().split("-")[0] === language);
  return known(chosen) ?? wishes.map(known).find((language) => language !== undefined) ?? "en";
}

/** Fetches a language's file. */
export async function load(language: Language): Promise<Strings> {
  const answer = await fetch(`strings/${language}.json`);
  return new Strings(language, (await answer.json()) as Record<string, string>);
}

/** Fills what the page marks: data-t for the text, data-t-label for the label that a screen reader says. */
export function fill(root: ParentNode, strings: Strings): void {
  for (const element of root.querySelectorAll<HTMLElement>("[data-t]")) {
    element.textContent = strings.say(element.dataset["t"] as Key);
  }
  for (const element of root.querySelectorAll<HTMLElement>("[data-t-label]")) {
    element.setAttribute("aria-label", strings.say(element.dataset["tLabel"] as Key));
  }
  for (const element of root.querySelectorAll<HTMLElement>("[data-t-placeholder]")) {
    element.setAttribute("placeholder", strings.say(element.dataset["tPlaceholder"] as Key));
  }
}
