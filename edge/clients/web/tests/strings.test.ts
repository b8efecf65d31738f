import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import de from "../static/strings/de.json";
import en from "../static/strings/en.json";
import { LANGUAGES, preferred, Strings } from "../src/strings.ts";

const places = (sentence: string): string[] => [...sentence.matchAll(/\{(\w+)\}/g)].map((found) => String(found[1])).sort();

test("each language has the same sentences with the same places", () => {
  assert.deepEqual(Object.keys(de).sort(), Object.keys(en).sort());
  for (const [key, sentence] of Object.entries(en)) {
    assert.deepEqual(places((de as Record<string, string>)[key] ?? ""), places(sentence), key);
  }
});

test("the page asks for sentences that there are, and offers the languages that there are", () => {
  const page = readFileSync("static/index.html", "utf8");
  const asked = [...page.matchAll(/data-t(?:-label|-placeholder)?="([^"]+)"/g)].map((found) => String(found[1]));
  assert.ok(asked.length > 50);
  for (const key of asked) assert.ok(key in en, key);
  const offered = [...page.matchAll(/<option value="([^"]+)" lang/g)].map((found) => found[1]);
  assert.deepEqual(offered, [...LANGUAGES]);
});

test("the page holds no code and no style of its own, which its policy forbids", () => {
  const page = readFileSync("static/index.html", "utf8");
  assert.doesNotMatch(page, /\son\w+=|\sstyle=|<style|<script(?![^>]*src=)|https?:\/\//);
});

test("numbers and plurals are those of the language", () => {
  const german = new Strings("de", de);
  assert.equal(german.count("write.kept", 1), "1 Satz bleibt in diesem Browser.");
  assert.equal(german.count("words.unit", 1200, { cap: 5000 }), "Sätze von höchstens 5.000");
  assert.equal(german.scientific(6.04e-7, 1), "6,0\u00a0×\u00a010⁻⁷");
  assert.equal(german.scientific(Number.NaN, 1), "NaN");
  assert.equal(german.date("2026-03-01"), "1. März 2026");
  assert.equal(new Strings("en", en).say("write.speed", { ms: "3.5" }), "Suggested in 3.5\u00a0ms");
});

test("the first language comes from the choice, then from the browser", () => {
  assert.equal(preferred("de", ["en"]), "de");
  assert.equal(preferred(null, ["fr-FR", "de-AT", "en"]), "de");
  assert.equal(preferred("xx", ["fr"]), "en");
});
