// Takes part in a server's rounds over a WebSocket: one binary message a frame, the bytes that gRPC carries, after a signed
// challenge.

import { ConnectionLost, DoorError, FedkeysError } from "./errors.ts";
import { JOIN, MAX_BYTES, NONCE_BYTES, asOneLine, proofBytes } from "./messages.ts";
import type { Participant } from "./participant.ts";
import { sign, type Bytes } from "./primitives.ts";

const SUBPROTOCOL = "fedkeys.v1";
const LOCAL_HOSTS = new Set(["localhost", "127.0.0.1", "[::1]"]);
const NORMAL_CLOSURE = 1000;
const MOST_WAITING = 8; // messages
const GOING_AWAY = 1001;
/** What a new connection would end by as well. */
const WHY_REFUSED: Record<number, string> = {
  1008: "the server takes no such answer: is it of another version?",
  1009: "the server takes no message of this length: is it of another version?",
  4401: "the server did not let this browser in: enrol with a code from the operator",
  4409: "another connection took this one's place: close the other tab",
};

interface DoorOptions {
  readonly signal: AbortSignal;
  readonly key: CryptoKey;
  readonly clientId: string;
  readonly admitted: () => void; // called once the server has let this client in
}

/**
 * Takes part until the server says goodbye, and returns its reason.
 *
 * @param url the address of the server's rounds, wss://HOST:PORT/rounds; ws:// only on this machine.
 *
 * Throws DoorError, in one sentence: the connection fails or ends, the signal aborts, or the participant refuses a message.
 * It is a ConnectionLost if another connection may do better.
 */
export async function takePart(url: string, participant: Participant, options: DoorOptions): Promise<string> {
  const { protocol, hostname } = new URL(url);
  if (protocol !== "wss:" && !LOCAL_HOSTS.has(hostname)) throw new DoorError("rounds travel over TLS only: use wss://");
  const connection = new Connection(new WebSocket(url, SUBPROTOCOL), options.signal);
  try {
    const nonce = await connection.next();
    if (nonce.length !== NONCE_BYTES) throw new DoorError("the server began with something else than a challenge");
    const signature = await sign(options.key, proofBytes(nonce, options.clientId));
    connection.send(JOIN.encode({ clientId: options.clientId, signature }));
    await connection.arrival(); // the server says no more to whom it does not let in
    options.admitted();
    return await untilGoodbye(connection, participant);
  } finally {
    connection.close();
  }
}

async function untilGoodbye(connection: Connection, participant: Participant): Promise<string> {
  for (;;) {
    const answer = await connection.unlessStopped(answered(participant, await connection.next()));
    if (participant.goodbye !== null) return participant.goodbye;
    if (answer !== null) connection.send(answer);
  }
}

async function answered(participant: Participant, message: Bytes): Promise<Uint8Array | null> {
  try {
    return await participant.answer(message);
  } catch (error) {
    if (!(error instanceof FedkeysError)) throw error;
    throw new DoorError(`this browser refuses what the server asks: ${error.message}`, { cause: error });
  }
}

/** The messages of a WebSocket, in order, one at a time. */
class Connection {
  private readonly waiting: Bytes[] = [];
  private ended: DoorError | null = null;
  private wake: () => void = () => undefined;
  private readonly stopped: Promise<never>;
  private stop: (why: DoorError) => void = () => undefined;

  constructor(
    private readonly socket: WebSocket,
    private readonly signal: AbortSignal,
  ) {
    this.stopped = new Promise<never>((_, reject) => {
      this.stop = reject;
    });
    this.stopped.catch(() => undefined); // nobody may be waiting
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }: MessageEvent<unknown>) => this.take(data);
    socket.onclose = ({ code, reason }) => {
      this.end(whyClosed(code, reason));
      if (this.ended && this.waiting.length === 0) this.stop(this.ended); // nobody takes what is still computed
    };
    signal.addEventListener("abort", this.onAbort);
    if (signal.aborted) this.onAbort();
  }

  /** Returns the next message; throws DoorError once the connection has ended and all messages are read. */
  async next(): Promise<Bytes> {
    await this.arrival();
    return this.waiting.shift() as Bytes;
  }

  /** Returns once there is a message to read; throws as next does. */
  async arrival(): Promise<void> {
    for (;;) {
      if (this.waiting.length > 0 && !this.signal.aborted) return;
      if (this.ended) throw this.ended;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  /** Returns what the work gives, or throws as soon as the person stops: training may take minutes. */
  unlessStopped<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.stopped]);
  }

  send(message: Uint8Array): void {
    if (this.ended) throw this.ended;
    this.socket.send(message as Bytes);
  }

  close(): void {
    this.signal.removeEventListener("abort", this.onAbort);
    this.end(new DoorError("the connection is closed"));
    this.socket.close(NORMAL_CLOSURE);
  }

  private readonly onAbort = (): void => {
    const why = new DoorError("you have stopped taking part");
    this.end(why);
    this.stop(why);
    this.socket.close(NORMAL_CLOSURE);
  };

  private take(data: unknown): void {
    // An honest server waits for each answer; what nobody asked for must not fill the browser's memory.
    const bytes = this.waiting.reduce((sum, message) => sum + message.length, 0);
    const isTooMuch = this.waiting.length >= MOST_WAITING || bytes + (data as ArrayBuffer).byteLength > MAX_BYTES;
    if (!(data instanceof ArrayBuffer) || isTooMuch) {
      this.waiting.length = 0;
      this.end(new DoorError("the server sent something else than a message of fedkeys"));
      this.stop(this.ended as unknown as DoorError);
      this.socket.close(NORMAL_CLOSURE);
      return;
    }
    this.waiting.push(new Uint8Array(data));
    this.wake();
  }

  private end(why: DoorError): void {
    this.ended ??= why;
    this.wake();
  }
}

function whyClosed(code: number, reason: string): DoorError {
  const refused = WHY_REFUSED[code];
  if (refused !== undefined) return new DoorError(refused);
  if (code === GOING_AWAY) return new ConnectionLost("the server has stopped: come back when it runs again");
  return new ConnectionLost(`the connection was lost (${asOneLine(reason) || code}): try again`);
}
