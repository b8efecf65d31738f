// The messages of server and client around those of secure aggregation, as orchestrator/network/messages.py.

import schema from "../../../conformance/settings.json";
import { WireError } from "./errors.ts";
import { ascii, concat, sha256, type Bytes } from "./primitives.ts";
import { Message, bytes, exactly, float, listOf, orNull, text, uint, withFallback, type Fielded } from "./wire.ts";

const VERSION = schema.network_version;
const MOST_WORDS = 1 << 20;
export const MAX_BYTES = 1 << 28; // the most that a client takes: a model of 64 million weights
export const NONCE_BYTES = 32;

const tag = (name: string) => `network/${VERSION}/${name}`;
const roundNum = uint(0, 2 ** 32 - 1);
const stage = text(1, 32);
const reason = text(0, 300);

/** Client to server, first: its name and its signature over the nonce. */
export const JOIN = new Message(tag("Join"), { clientId: text(), signature: exactly(64) });
/** Server to client, once: the settings as JSON, and the vocabulary. */
export const SETUP = new Message(tag("Setup"), { config: bytes(), words: listOf(text(), MOST_WORDS) });
/** Server to client: train with these weights (float32, little-endian, in the model's order). */
export const PLAN = new Message(tag("Plan"), {
  roundNum,
  learningRate: float,
  weights: bytes(),
  terms: withFallback(bytes(), new Uint8Array(0)),
});
/** Server to client: a message of the protocol. */
export const STEP = new Message(tag("Step"), { roundNum, stage, body: bytes() });
/** Server to client: there is nothing left to do. */
export const GOODBYE = new Message(tag("Goodbye"), { reason });
/** Client to server: the protocol's answer; after training nothing. */
export const ANSWER = new Message(tag("Answer"), { roundNum, stage, body: bytes() });
/** Client to server: not in this round. */
export const DECLINE = new Message(tag("Decline"), { roundNum, stage, reason });

export type Setup = Fielded<typeof SETUP>;
export type Plan = Fielded<typeof PLAN>;
export type Step = Fielded<typeof STEP>;
export type ToClient =
  | { readonly kind: "setup"; readonly fields: Setup }
  | { readonly kind: "plan"; readonly fields: Plan }
  | { readonly kind: "step"; readonly fields: Step }
  | { readonly kind: "goodbye"; readonly fields: Fielded<typeof GOODBYE> };

/** Returns the server's message that the bytes hold; throws WireError if they hold none. */
export function decodeToClient(octets: Bytes): ToClient {
  const found = octets.length > MAX_BYTES ? null : orNull(() => anyToClient(octets));
  if (found === null) {
    throw new WireError(`${octets.length} bytes that are no message of fedkeys' network version ${VERSION}`);
  }
  return found;
}

function anyToClient(octets: Bytes): ToClient | null {
  const setup = SETUP.tryDecode(octets);
  if (setup) return { kind: "setup", fields: setup };
  const plan = PLAN.tryDecode(octets);
  if (plan) return { kind: "plan", fields: plan };
  const step = STEP.tryDecode(octets);
  if (step) return { kind: "step", fields: step };
  const goodbye = GOODBYE.tryDecode(octets);
  return goodbye && { kind: "goodbye", fields: goodbye };
}

/** Returns 32 bytes over all that a client hears for a round: configuration, words, round, learning rate, weights. */
export const agreedDigest = async (setup: Bytes, plan: Bytes): Promise<Bytes> =>
  sha256(ascii("fedkeys network 1 agreed\0"), await sha256(setup), await sha256(plan));

/** Returns the bytes that a client signs to prove its identity. */
export const proofBytes = (nonce: Bytes, clientId: string): Bytes =>
  concat(ascii("fedkeys network 1 join\0"), nonce, ascii(clientId));

/** Returns a text that somebody else wrote as one line: what can't be seen is written out. */
export const asOneLine = (line: string): string =>
  line.replace(/[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu, (found) => {
    const named: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
    const code = found.codePointAt(0)!;
    const [letter, width] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
    return named[found] ?? `\\${letter}${code.toString(16).padStart(Number(width), "0")}`;
  });
