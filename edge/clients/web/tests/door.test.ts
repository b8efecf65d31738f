import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { takePart } from "../src/door.ts";
import { ConnectionLost, DemandRefused } from "../src/errors.ts";
import { JOIN, proofBytes } from "../src/messages.ts";
import type { Participant } from "../src/participant.ts";
import { fromHex, isSigned, type Bytes } from "../src/primitives.ts";
import vectors from "../../../conformance/primitives.json";
import { identityKey, refused } from "./vectors.ts";

const URL = "wss://phones.example:8443/rounds";
const NONCE = fromHex("07".repeat(32));

/** A WebSocket whose server is the test. */
class Socket {
  static last: Socket;
  readonly sent: Bytes[] = [];
  binaryType = "";
  closed: number | null = null;
  onmessage: (event: { data: unknown }) => void = () => undefined;
  onclose: (event: { code: number; reason: string }) => void = () => undefined;

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {
    Socket.last = this;
  }

  send(message: Bytes): void {
    this.sent.push(message);
  }

  close(code: number): void {
    this.closed ??= code;
  }

  says(message: Uint8Array): void {
    this.onmessage({ data: message.slice().buffer });
  }
}

const real = globalThis.WebSocket;
afterEach(() => {
  globalThis.WebSocket = real;
});

/** Begins to take part with a participant that answers so; the promise is that of takePart. */
async function begun(answer: (message: Uint8Array) => Promise<Uint8Array | null>, url = URL) {
  globalThis.WebSocket = Socket as unknown as typeof WebSocket;
  const participant = { goodbye: null as string | null, answer };
  const aborting = new AbortController();
  const key = await identityKey(vectors.ed25519.private);
  const letIn = { count: 0 };
  const options = { signal: aborting.signal, key, clientId: "phone 7", admitted: () => void letIn.count++ };
  const end = takePart(url, participant as unknown as Participant, options);
  end.catch(() => undefined); // looked at later
  return { end, participant, aborting, letIn, socket: Socket.last };
}

const echo = async (message: Uint8Array) => message;
const turn = () => new Promise((resolve) => setTimeout(resolve, 20));

/** The server sends its challenge, and the client has answered it: signing takes a thread, which a busy machine gives late. */
async function joined(socket: Socket): Promise<void> {
  socket.says(NONCE);
  while (socket.sent.length === 0) await turn();
}

test("the challenge is signed, each message is answered in order, and the goodbye's reason is returned", async () => {
  const { end, participant, socket } = await begun(async (message) => {
    if (message[0] === 9) participant.goodbye = "all rounds are done";
    return message[0] === 1 ? null : message;
  });
  assert.deepEqual([socket.url, socket.protocol, socket.binaryType], [URL, "fedkeys.v1", "arraybuffer"]);
  for (const message of [NONCE, [1], [2], [3], [9]]) socket.says(Uint8Array.from(message));
  assert.equal(await end, "all rounds are done");
  const [join, ...answers] = socket.sent;
  const { clientId, signature } = JOIN.decode(join!, 1 << 10);
  assert.equal(clientId, "phone 7");
  assert.ok(await isSigned(signature, fromHex(vectors.ed25519.public), proofBytes(NONCE, "phone 7")));
  assert.deepEqual(answers.map((answer) => [...answer]), [[2], [3]]);
  assert.equal(socket.closed, 1000);
});

for (const [code, isLost, text] of [
  [4401, false, /^the server did not let this browser in/],
  [4409, false, /^another connection took this one's place/],
  [1009, false, /^the server takes no message of this length/],
  [1008, false, /^the server takes no such answer/],
  [1001, true, /^the server has stopped/],
  [1006, true, /^the connection was lost \(1006\): try again$/],
] as const) {
  test(`a connection that ends with ${code} is one sentence, and another one ${isLost ? "may help" : "is of no use"}`, async () => {
    const { end, socket } = await begun(echo);
    socket.says(NONCE);
    socket.onclose({ code, reason: "" });
    await refused(() => end, "DoorError", text);
    assert.equal(await end.catch((error: unknown) => error instanceof ConnectionLost), isLost);
  });
}

test("a client is let in when the server says something after its challenge, and once", async () => {
  const { end, letIn, participant, socket } = await begun(async (message) => {
    if (message[0] === 9) participant.goodbye = "done";
    return message;
  });
  await joined(socket);
  assert.equal(letIn.count, 0);
  for (const message of [[1], [2], [9]]) socket.says(Uint8Array.from(message));
  await end;
  assert.equal(letIn.count, 1);
});

test("who is not let in is never told otherwise", async () => {
  const { end, letIn, socket } = await begun(echo);
  socket.says(NONCE);
  socket.onclose({ code: 4401, reason: "" });
  await refused(() => end, "DoorError");
  assert.equal(letIn.count, 0);
});

test("what the participant refuses ends the connection, in its words", async () => {
  const { end, socket } = await begun(() => Promise.reject(new DemandRefused("too many epochs")));
  socket.says(NONCE);
  socket.says(Uint8Array.of(1));
  await refused(() => end, "DoorError", "this browser refuses what the server asks: too many epochs");
  assert.equal(socket.closed, 1000);
});

test("a mistake of the page is not told as the server's", async () => {
  const { end, socket } = await begun(() => Promise.reject(new TypeError("undefined")));
  socket.says(NONCE);
  socket.says(Uint8Array.of(1));
  await assert.rejects(end, TypeError);
});

test("whoever stops hangs up at once, and no answer leaves that was still on its way", async () => {
  let finish: (answer: Uint8Array) => void = () => undefined;
  const { end, aborting, socket } = await begun(() => new Promise((resolve) => { finish = resolve; }));
  await joined(socket);
  socket.says(Uint8Array.of(1));
  await turn();
  aborting.abort();
  assert.equal(socket.closed, 1000);
  await refused(() => end, "DoorError", "you have stopped taking part");
  finish(Uint8Array.of(1));
  await turn();
  assert.equal(socket.sent.length, 1, "the join alone");
});

test("a server that closes while the client still trains ends the taking part at once, in one line", async () => {
  const { end, socket } = await begun(() => new Promise<never>(() => undefined));
  await joined(socket);
  socket.says(Uint8Array.of(1));
  await turn();
  socket.onclose({ code: 1006, reason: "gone\nfor\u202egood" });
  await refused(() => end, "DoorError", "the connection was lost (gone\\nfor\\u202egood): try again");
});

test("a server that begins with something else, or sends text, is left", async () => {
  const short = await begun(echo);
  short.socket.says(NONCE.slice(1));
  await refused(() => short.end, "DoorError", /something else than a challenge/);
  const text = await begun(echo);
  text.socket.onmessage({ data: "hello" });
  await refused(() => text.end, "DoorError", /something else than a message of fedkeys/);
  assert.equal(text.socket.closed, 1000);
});

test("a server that does not wait for answers is left before it fills the memory", async () => {
  const { end, socket } = await begun(() => new Promise<never>(() => undefined));
  await joined(socket);
  socket.says(Uint8Array.of(1)); // is being answered
  await turn();
  for (let count = 0; count < 8; count++) socket.says(Uint8Array.of(1));
  assert.equal(socket.closed, null);
  socket.says(Uint8Array.of(1));
  assert.equal(socket.closed, 1000);
  await refused(() => end, "DoorError", "the server sent something else than a message of fedkeys");
});

test("rounds travel over TLS, but on this machine", async () => {
  const { end } = await begun(echo, "ws://phones.example/rounds");
  await refused(() => end, "DoorError", /TLS only/);
  for (const host of ["localhost", "127.0.0.1", "[::1]"]) {
    const local = await begun(echo, `ws://${host}:8080/rounds`);
    local.socket.onclose({ code: 1001, reason: "" });
    await refused(() => local.end, "DoorError", /has stopped/);
  }
});
