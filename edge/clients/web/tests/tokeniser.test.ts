import assert from "node:assert/strict";
import { test } from "node:test";
import { openWords, scrub, sentences, typing, wordsOf } from "../src/tokeniser.ts";

test("a message is split into sentences of words", () => {
  assert.deepEqual(sentences("Hi! How are you...fine? Call 801-555-0100"), [["hi"], ["how", "are", "you"], ["fine"], ["call"]]);
  assert.deepEqual(wordsOf("I don\u2019t know SOOOOO funny, hahahahah! 10:30?"), ["i", "don't", "know", "sooo", "funny", "hahaha", "10:30"]);
  assert.deepEqual(sentences('he said "stop." Then (he left?) and came'), [["he", "said", "stop"], ["then", "he", "left", "and", "came"]]);
});

test("what could name a person is taken out, dates and thousands stay", () => {
  assert.deepEqual(scrub("write to ann@example.org or call 801-555-0100").trim().split(/\s+/), ["write", "to", "or", "call"]);
  assert.deepEqual(sentences("on 2018-05-02 and 1.000.000,50 or 12/31/2022"), [
    ["on", "2018", "05", "02", "and", "1.000.000,50", "or", "12", "31", "2022"],
  ]);
  assert.deepEqual(sentences("card 4111.1111.1111.1111 iban DE89 3704 0044 0532 0130 00"), [["card", "iban"]]);
});

test("entities are read once and as HTML 5 reads them", () => {
  assert.equal(scrub("don&#39;t &amp;lt; &notathing; &#128; &#0;&#1;&#xD800;&#x1F602;"), "don't &lt; &notathing; \u20ac \ufffd\ufffd\u{1f602}");
});

test("where case does not matter, a Turkish i is an i", () => {
  assert.deepEqual(sentences("go \u0130z://x now"), [["go", "now"]]);
});

test("scripts that put no space between words end an address", () => {
  assert.deepEqual(sentences("我的邮箱是a@b.com请写信"), [["我的邮箱是", "请写信"]]);
});

test("the open sentence is what comes after the last end", () => {
  assert.deepEqual(openWords("Hello! See you"), ["see", "you"]);
  assert.deepEqual(openWords("Hello."), []);
  assert.deepEqual(openWords("See you. \u{1f602}"), []);
});

test("a half-typed word is told from the words before it", () => {
  assert.deepEqual(typing("how are yo"), { before: ["how", "are"], half: "yo" });
  assert.deepEqual(typing("how are "), { before: ["how", "are"], half: "" });
  assert.deepEqual(typing("how are you?"), { before: [], half: "" });
  assert.deepEqual(typing("I don't"), { before: ["i"], half: "don't" });
  assert.deepEqual(typing(""), { before: [], half: "" });
});
