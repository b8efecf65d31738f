// Seals bytes for the holder of a public key: HPKE's base mode (RFC 9180, sections 4.1, 5.1 and 6.1), one message for each key
// that it derives, as orchestrator/split/hpke.py. The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM.

import { ascii, concat, exchange, hmac, sealed, x25519Pair, type Bytes, type Random } from "./primitives.ts";

const KEY_BYTES = 32;
export const OVERHEAD_BYTES = KEY_BYTES + 16; // the ephemeral public key and the tag
const AEAD_KEY_BYTES = 16;
const NONCE_BYTES = 12;
const KEM_SUITE = concat(ascii("KEM"), Uint8Array.of(0, 0x20));
const SUITE = concat(ascii("HPKE"), Uint8Array.of(0, 0x20, 0, 1, 0, 1));
const BASE_MODE = Uint8Array.of(0);
const NOTHING = new Uint8Array(0);

/**
 * Returns ephemeral public key | ciphertext | tag, which only the holder of the private key opens. The key is bound to `info`,
 * the ciphertext to `aad`. Throws UnsoundKey for a public key of small order.
 */
export async function seal(publicKey: Bytes, info: Bytes, plain: Bytes, aad: Bytes, random: Random): Promise<Bytes> {
  const own = await x25519Pair(random(KEY_BYTES));
  const shared = await exchange(own.privateKey, publicKey);
  const { key, nonce } = await keyAndNonce(await sharedSecret(shared, own.publicKey, publicKey), info);
  return concat(own.publicKey, (await sealed(plain, key, nonce, aad)).slice(NONCE_BYTES));
}

/** ExtractAndExpand of section 4.1. */
async function sharedSecret(shared: Bytes, ephemeral: Bytes, publicKey: Bytes): Promise<Bytes> {
  const secret = await extract(KEM_SUITE, NOTHING, "eae_prk", shared);
  return expand(KEM_SUITE, secret, "shared_secret", concat(ephemeral, publicKey), KEY_BYTES);
}

/** KeySchedule of section 5.1 in base mode, for the first and only message. */
async function keyAndNonce(secretOfKem: Bytes, info: Bytes): Promise<{ key: Bytes; nonce: Bytes }> {
  const noPsk = await extract(SUITE, NOTHING, "psk_id_hash", NOTHING);
  const context = concat(BASE_MODE, noPsk, await extract(SUITE, NOTHING, "info_hash", info));
  const secret = await extract(SUITE, secretOfKem, "secret", NOTHING);
  return {
    key: await expand(SUITE, secret, "key", context, AEAD_KEY_BYTES),
    nonce: await expand(SUITE, secret, "base_nonce", context, NONCE_BYTES),
  };
}

/** LabeledExtract of section 4. */
const extract = (suite: Bytes, salt: Bytes, label: string, secret: Bytes): Promise<Bytes> =>
  hmac(salt, concat(ascii("HPKE-v1"), suite, ascii(label), secret));

/** LabeledExpand of section 4, of at most 32 bytes: HKDF-Expand's first block is enough. */
async function expand(suite: Bytes, secret: Bytes, label: string, info: Bytes, numBytes: number): Promise<Bytes> {
  const labelled = concat(Uint8Array.of(0, numBytes), ascii("HPKE-v1"), suite, ascii(label), info, Uint8Array.of(1));
  return (await hmac(secret, labelled)).slice(0, numBytes);
}
