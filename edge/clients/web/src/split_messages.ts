// The messages of the split sum that a client reads and writes, as orchestrator/split/messages.py lists them.

import { MalformedMessage, WireError } from "./errors.ts";
import { OVERHEAD_BYTES } from "./hpke.ts";
import { SEED_BYTES } from "./masks.ts";
import { ascii, bigEndian32, concat, sha256, type Bytes } from "./primitives.ts";
import { MOST_HELPERS } from "./roster.ts";
import { Message, bytes, exactly, listOf, text, uint, type Fielded } from "./wire.ts";

const VERSION = 1;
const MAX_TERMS_BYTES = 256;
const PREFIX = "fedkeys split sum 1 ";
const MOST_UINT32 = 2 ** 32 - 1;

const tag = (name: string) => `split/${VERSION}/${name}`;
const digest = exactly(32);
const count = uint(0, MOST_UINT32);

/** What a client is told of the sum, and signs. */
export const ROUND_TERMS = new Message(tag("RoundTerms"), {
  run: digest,
  roundNum: count,
  group: count,
  maxStaleness: count,
  numSlots: uint(1, 2 ** 29 - 1),
  minContributions: uint(1, MOST_UINT32),
  helpers: digest,
});
export type RoundTerms = Fielded<typeof ROUND_TERMS>;

/** A client's masked vector, with a sealed seed for each helper. */
export const UPLOAD = new Message(tag("Upload"), {
  terms: digest,
  clientId: text(1, 128),
  version: count,
  sealed: listOf(exactly(SEED_BYTES + OVERHEAD_BYTES), MOST_HELPERS),
  signature: exactly(64),
  words: bytes(),
});

/** Returns the terms that the bytes hold; throws MalformedMessage. */
export function decodeTerms(octets: Bytes): RoundTerms {
  try {
    return ROUND_TERMS.decode(octets, MAX_TERMS_BYTES);
  } catch (error) {
    if (error instanceof WireError) throw new MalformedMessage(error.message);
    throw error;
  }
}

/** Returns 32 bytes that name all of the terms at once. */
export const termsDigest = (terms: RoundTerms): Promise<Bytes> => {
  const { run, roundNum, group, maxStaleness, numSlots, minContributions, helpers } = terms;
  return sha256(ascii(`${PREFIX}terms\0`), run, bigEndian32(roundNum, group, maxStaleness, numSlots, minContributions), helpers);
};

/** Returns 32 bytes that name the helpers' public keys, in their order. */
export const helpersDigest = (helpers: readonly Bytes[]): Promise<Bytes> => sha256(ascii(`${PREFIX}helpers\0`), ...helpers);

/** What a client states of its vector. */
export interface Statement {
  readonly terms: Bytes; // digest of the RoundTerms
  readonly version: number;
  readonly agreed: Bytes; // a digest of all else that the client was told for the round
  readonly wordsDigest: Bytes; // of the masked vector
  readonly clientId: string;
}

/** Returns what the client signs: the statement and the digest of each sealed seed, in the helpers' order. */
export const signedBytes = ({ terms, version, agreed, wordsDigest, clientId }: Statement, seals: readonly Bytes[]): Bytes => {
  const counts = concat(bigEndian32(version), Uint8Array.of(seals.length));
  return concat(ascii(`${PREFIX}upload\0`), terms, counts, agreed, wordsDigest, ...seals, ascii(clientId));
};

/** Returns what the key of a sealed seed is bound to: round, model, helper and client. */
export const sealInfo = ({ terms, version, agreed, clientId }: Statement, helper: number): Bytes =>
  concat(ascii(`${PREFIX}seed\0`), terms, bigEndian32(version), Uint8Array.of(helper), agreed, ascii(clientId));
