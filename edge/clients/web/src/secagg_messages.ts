// The messages of secure aggregation, as orchestrator/secagg/messages.py lists them in their order.

import { WireError } from "./errors.ts";
import { ascii, bigEndian32, concat, sha256, type Bytes } from "./primitives.ts";
import { SHARE_BYTES } from "./shamir.ts";
import { Message, bytes, exactly, listOf, part, uint, type Fielded, type Value } from "./wire.ts";

const VERSION = 1;
const MAX_CLIENTS = 1 << 20;
const MOST_UINT32 = 2 ** 32 - 1;
const SEALED_OVERHEAD_BYTES = 12 + 16; // nonce and tag
export const TAG_BYTES = 16;

const tag = (name: string) => `secagg/${VERSION}/${name}`;
const index = uint(0, MAX_CLIENTS - 1);
const key = exactly(32);
const session = exactly(32);
const signature = exactly(64);
const share = exactly(SHARE_BYTES);
const sealed = exactly(2 * SHARE_BYTES + SEALED_OVERHEAD_BYTES);

export const INVITATION = new Message(tag("Invitation"), {
  nonce: key,
  roundNum: uint(0, MOST_UINT32),
  recipient: index,
  numClients: uint(1, MAX_CLIENTS),
  degree: index,
  threshold: index,
  minSurvivors: index,
  numSlots: uint(1, MOST_UINT32),
});
const credentials = part({ index, identity: key, channelKey: key, maskKey: key, signature });
export const ADVERTISEMENT = new Message(tag("Advertisement"), { session, credentials });
export const ROSTER = new Message(tag("Roster"), { session, recipient: index, neighbours: listOf(credentials) });
const sealedShare = part({ recipient: index, sealed, tags: exactly(2 * TAG_BYTES) });
export const SEALED_SHARES = new Message(tag("SealedShares"), {
  session,
  sender: index,
  commitment: key,
  shares: listOf(sealedShare),
});
export const DELIVERY = new Message(tag("Delivery"), {
  session,
  recipient: index,
  shares: listOf(part({ sender: index, sealed })),
});
export const MASKED_VECTOR = new Message(tag("MaskedVector"), { session, sender: index, words: bytes() });
export const SURVIVORS = new Message(tag("Survivors"), { session, recipient: index, alive: bytes(0, MAX_CLIENTS / 8) });
export const CONSENT = new Message(tag("Consent"), { session, sender: index, signature });
export const UNMASK_REQUEST = new Message(tag("UnmaskRequest"), {
  session,
  recipient: index,
  consents: listOf(part({ sender: index, signature })),
  alive: listOf(index),
  dead: listOf(index),
});
const ownedShares = listOf(part({ owner: index, share }));
export const UNMASKING = new Message(tag("Unmasking"), {
  session,
  sender: index,
  seedShares: ownedShares,
  keyShares: ownedShares,
});

export type Invitation = Fielded<typeof INVITATION>;
export type Credentials = Value<typeof credentials>;
export type Roster = Fielded<typeof ROSTER>;
export type SealedShare = Value<typeof sealedShare>;
export type Delivery = Fielded<typeof DELIVERY>;
export type Survivors = Fielded<typeof SURVIVORS>;
export type UnmaskRequest = Fielded<typeof UNMASK_REQUEST>;

/** Returns 32 bytes that name the session and fix its parameters: clients that hear different ones share no keys. */
export function sessionOf(found: Invitation): Promise<Bytes> {
  const { roundNum, numClients, degree, threshold, minSurvivors, numSlots } = found;
  const parameters = bigEndian32(roundNum, numClients, degree, threshold, minSurvivors, numSlots);
  return sha256(ascii("fedkeys secagg 1 session\0"), found.nonce, parameters);
}

/** What a client's signature over its keys covers, besides session and index. */
export const signedKeys = (of: Credentials): Bytes => concat(of.identity, of.channelKey, of.maskKey);

/** Returns 32 bytes that take the session's place from the shares on; see bound_session in Python's messages. */
export async function boundSession(name: Bytes, agreed: Bytes, everyone: readonly Credentials[]): Promise<Bytes> {
  const sorted = [...everyone].sort((one, other) => one.index - other.index);
  const keys = sorted.flatMap((peer) => [bigEndian32(peer.index), signedKeys(peer)]);
  return sha256(ascii("fedkeys secagg 1 bound\0"), name, await sha256(agreed), ...keys);
}

/** Returns the indices whose bits are set, lowest bit first; throws WireError for a bitmap of another number of clients. */
export function fromBitmap(bits: Bytes, numClients: number): Set<number> {
  const indices = new Set<number>();
  bits.forEach((octet, place) => {
    for (let bit = 0; bit < 8; bit += 1) if ((octet >> bit) & 1) indices.add(8 * place + bit);
  });
  const fits = bits.length === Math.ceil(numClients / 8) && [...indices].every((found) => found < numClients);
  if (!fits) throw new WireError(`a bitmap of ${bits.length} bytes that is not one of ${numClients} clients`);
  return indices;
}
