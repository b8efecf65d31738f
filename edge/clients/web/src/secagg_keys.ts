// The keys, seals and signatures of secure aggregation, as orchestrator/secagg/keys.py. Each names its purpose, its session
// and its parties, so that a value from one place, session or pair is useless in another.

import * as primitives from "./primitives.ts";
import { ascii, bigEndian32, concat, derive, sha256, type Bytes } from "./primitives.ts";
import { TAG_BYTES } from "./secagg_messages.ts";

export const NONCE_BYTES = 12;

/** Returns the bytes that bind a value to its purpose, its session and its parties, in order. */
export const context = (purpose: string, session: Bytes, ...parties: number[]): Bytes =>
  concat(ascii(`fedkeys secagg 1 ${purpose}\0`), session, bigEndian32(...parties));

/** Returns the seed of the mask between two clients, the same for both, from the value that their keys give. */
export const pairMaskSeed = (shared: Bytes, session: Bytes, one: number, other: number): Promise<Bytes> =>
  derive(shared, context("pair mask", session, Math.min(one, other), Math.max(one, other)));

/** Returns the seed of a client's own mask. */
export const selfMaskSeed = (secret: Bytes, session: Bytes, owner: number): Promise<Bytes> =>
  derive(secret, context("self mask", session, owner));

/** Returns a client's commitment to its self-mask secret, by which the server notices a wrong recovery. */
export const commitment = (secret: Bytes, session: Bytes, owner: number): Promise<Bytes> =>
  derive(secret, context("self mask commitment", session, owner));

/** Returns 16 bytes by which the server recognises a true share. */
export const shareTag = async (share: Bytes, session: Bytes, owner: number, holder: number): Promise<Bytes> =>
  (await sha256(context("share tag", session, owner, holder), share)).slice(0, TAG_BYTES);

/** Seals a secret under a key of this sender, recipient and session alone; `channel` is their Diffie-Hellman value. */
export async function seal(
  plain: Bytes,
  channel: Bytes,
  session: Bytes,
  sender: number,
  to: number,
  nonce: Bytes,
): Promise<Bytes> {
  const info = context("shares", session, sender, to);
  return primitives.sealed(plain, await derive(channel, info), nonce, info);
}

/** Returns what `seal` sealed, or null if the bytes were changed, or sealed for another pair or session. */
export async function unseal(whole: Bytes, channel: Bytes, session: Bytes, sender: number, to: number): Promise<Bytes | null> {
  const info = context("shares", session, sender, to);
  return primitives.opened(whole, await derive(channel, info), info);
}

/** Returns an Ed25519 signature over the purpose, session, sender and body. */
export const sign = (identity: CryptoKey, purpose: string, session: Bytes, sender: number, body: Bytes): Promise<Bytes> =>
  primitives.sign(identity, concat(context(purpose, session, sender), body));

/** Returns whether this identity signed exactly this purpose, session, sender and body. */
export const isSigned = (
  signature: Bytes,
  identity: Bytes,
  purpose: string,
  session: Bytes,
  sender: number,
  body: Bytes,
): Promise<boolean> => primitives.isSigned(signature, identity, concat(context(purpose, session, sender), body));
