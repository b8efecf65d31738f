import assert from "node:assert/strict";
import { test } from "node:test";
import chats from "../../../conformance/chats.json";
import { Fault } from "../src/faults.ts";
import { inChat, readImport } from "../src/imports.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const read = (...lines: string[]) => readImport(bytes(lines.join("\n")));
const refused = (content: Uint8Array, code: string) =>
  assert.throws(() => readImport(content), (error: unknown) => error instanceof Fault && error.code === code);

test("what is an exported chat, and of whom, is what Python says", () => {
  for (const [name, { lines, names }] of Object.entries(chats)) {
    assert.deepEqual(inChat(lines).map((person) => person.name), names, name);
  }
});

test("plain text is a message a line, whatever ends its lines, without a byte order mark", () => {
  assert.deepEqual(readImport(bytes("\ufeffsee you\r\nok\rfine\n")), { messages: ["see you", "ok", "fine"] });
});

test("a chat's messages are its people's; lines that go on are kept, what nobody typed is not", () => {
  const found = read(
    "02.05.18, 19:36 - Messages are end-to-end encrypted.",
    "and no part of a message",
    "02.05.18, 19:38 - Ann: see you",
    "at ten: or so",
    "02.05.18, 19:39 - Bob: <Media omitted>",
    "02.05.18, 19:40 - You added Cy",
    "02.05.18, 19:41 - Ann: This message was deleted",
    "02.05.18, 19:42 - Ann: IMG-1.jpg (file attached)",
    "02.05.18, 19:43 - Ann: null",
    "02.05.18, 19:44 - Ann: this message was deleted by me",
  );
  assert.deepEqual(found, {
    people: [
      { name: "Ann", messages: ["see you\nat ten: or so", "this message was deleted by me"] },
      { name: "Bob", messages: ["<Media omitted>"] }, // which the tokeniser leaves out
    ],
  });
});

test("on an iPhone placeholders and names bear marks of direction", () => {
  const found = read(
    "[02.05.18, 19:38:15] \u202aAnn\u202c: hi",
    "\u200e[02.05.18, 19:39:15] Ann: \u200eimage omitted",
    "[02.05.18, 19:40:15] Bob: hi",
  );
  assert.deepEqual(found, { people: [{ name: "Ann", messages: ["hi"] }, { name: "Bob", messages: ["hi"] }] });
});

test("a line of millions of spaces is read", () => {
  const line = `${" ".repeat(6_000_000)}x`;
  assert.deepEqual(inChat([line]), []);
});

test("of a Telegram chat only what its people typed, by their ids", () => {
  const message = (from: string, from_id: string, text: unknown, more = {}) => ({ type: "message", from, from_id, text, ...more });
  const chat = {
    name: "friends",
    messages: [
      { type: "service", actor: "Ann", text: "" },
      message("Ann", "user1", "see you"),
      message("Ann", "user2", "another of the same name"),
      message("Ann", "user1", ["look ", { type: "link", text: "https://example.org" }, " now"]),
      message("Ann", "user1", ["so ", { type: "of a later version", text: { of: "what?", toString: 1 } }, { text: 3 }]),
      message("Ann", "user1", "somebody else's", { forwarded_from: "Cy" }),
      message("Ann", "user1", "a program's", { via_bot: "@bot" }),
      { type: "message", from: null, from_id: "user3", text: "who has left" },
    ],
  };
  const people = [
    { name: "Ann", messages: ["see you", "look https://example.org now", "so "] },
    { name: "Ann", messages: ["another of the same name"] },
  ];
  for (const text of [JSON.stringify(chat, null, 1), JSON.stringify(chat)]) assert.deepEqual(readImport(bytes(text)), { people });
});

test("JSON Lines are read by their client_id", () => {
  const found = read('{"client_id": "ann", "text": "hi"}', "", '{"client_id": "bob", "text": "ok", "timestamp": 1}');
  assert.deepEqual(found, { people: [{ name: "ann", messages: ["hi"] }, { name: "bob", messages: ["ok"] }] });
});

test("what is not read is refused by its name", () => {
  refused(Uint8Array.of(0x50, 0x4b, 3, 4, 0), "importPacked");
  refused(Uint8Array.of(0x1f, 0x8b, 8), "importPacked");
  refused(Uint8Array.of(0xff, 0xfe, 0x41, 0), "importUnread"); // UTF-16
  refused(bytes("a\0b"), "importUnread");
  refused(new Uint8Array((1 << 26) + 1), "importLarge");
  refused(bytes("\n<!DOCTYPE html><html></html>"), "importHtml");
  for (const json of ["{", "{}", '{"chats": {"list": []}}', '{"messages": []}', '{"client_id": 3, "text": "a"}', '{"client_id": "", "text": "a"}']) {
    refused(bytes(json), "importJson");
  }
  refused(bytes('{"client_id": "ann", "text": "hi"}\nand text'), "importJson");
  refused(bytes('{"messages": [null, 3, "text", {"type": "message", "text": "of nobody"}]}'), "importJson");
});
