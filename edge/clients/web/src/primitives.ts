// The platform's cryptography, as bytes in and bytes out: X25519, Ed25519, HKDF, AES-GCM, AES-CTR, SHA-256 of WebCrypto.

/** Bytes that WebCrypto takes: not those of shared memory. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Returns that many random bytes. A test may hand in its own; everything else takes `random`. */
export type Random = (count: number) => Bytes;

const subtle = globalThis.crypto.subtle;
const utf8 = new TextEncoder();
const X25519_PKCS8 = fromHex("302e020100300506032b656e04220420"); // RFC 8410: what stands before a private key's 32 bytes
// The y of each point of order 1, 2, 4 or 8, little-endian, also where it is written as y + p, as edge/signatures.py.
const SMALL_ORDER = new Set([
  "00".repeat(32),
  "01" + "00".repeat(31),
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ec" + "ff".repeat(30) + "7f",
  "ed" + "ff".repeat(30) + "7f",
  "ee" + "ff".repeat(30) + "7f",
]);
const BASE_POINT = Uint8Array.of(9, ...new Uint8Array(31)); // RFC 7748, section 6.1
const MOST_RANDOM = 65536; // bytes of one call, by WebCrypto's rule

export const ascii = (text: string): Bytes => utf8.encode(text) as Bytes;

export function concat(...parts: Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Returns the numbers as uint32, big-endian. */
export function bigEndian32(...numbers: number[]): Bytes {
  const view = new DataView(new ArrayBuffer(4 * numbers.length));
  numbers.forEach((number, place) => view.setUint32(4 * place, number));
  return new Uint8Array(view.buffer);
}

export const hex = (octets: Uint8Array): string => Array.from(octets, (octet) => octet.toString(16).padStart(2, "0")).join("");

export function fromHex(text: string): Bytes {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new RangeError("no hex digits");
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

export const equal = (one: Uint8Array, other: Uint8Array): boolean =>
  one.length === other.length && one.every((octet, place) => octet === other[place]);

export function random(count: number): Bytes {
  const octets = new Uint8Array(count);
  for (let at = 0; at < count; at += MOST_RANDOM) globalThis.crypto.getRandomValues(octets.subarray(at, at + MOST_RANDOM));
  return octets;
}

export const sha256 = async (...parts: Uint8Array[]): Promise<Bytes> =>
  new Uint8Array(await subtle.digest("SHA-256", concat(...parts)));

/** Returns 32 bytes from a secret, by HKDF-SHA256 (RFC 5869) without salt: the secret is uniform or a Diffie-Hellman value. */
export async function derive(secret: Bytes, info: Bytes): Promise<Bytes> {
  const key = await subtle.importKey("raw", secret, "HKDF", false, ["deriveBits"]);
  const parameters = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info };
  return new Uint8Array(await subtle.deriveBits(parameters, key, 256));
}

/** Returns HMAC-SHA256 (RFC 2104). An empty key is zeros, which it would be filled up with; WebCrypto takes none that is empty. */
export async function hmac(key: Bytes, body: Bytes): Promise<Bytes> {
  const raw = key.length > 0 ? key : new Uint8Array(32);
  const imported = await subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await subtle.sign("HMAC", imported, body));
}

/** A public key that gives a shared value that anyone knows, or that is another's, written another way. */
export class UnsoundKey extends Error {}

export interface KeyPair {
  readonly raw: Bytes; // the private key's 32 bytes, which the mask key is shared as
  readonly privateKey: CryptoKey;
  readonly publicKey: Bytes;
}

/** Returns the X25519 key pair of a private key of 32 random bytes (RFC 7748). */
export async function x25519Pair(raw: Bytes): Promise<KeyPair> {
  const privateKey = await subtle.importKey("pkcs8", concat(X25519_PKCS8, raw), { name: "X25519" }, false, ["deriveBits"]);
  return { raw, privateKey, publicKey: await exchange(privateKey, BASE_POINT) };
}

/**
 * Returns the 32-byte Diffie-Hellman value of two parties; throws UnsoundKey where anyone knows it, or where the public key
 * is not below the field's prime: X25519 reads such a key as another one.
 */
export async function exchange(privateKey: CryptoKey, publicKey: Bytes): Promise<Bytes> {
  if (!isBelowPrime(publicKey)) throw new UnsoundKey("a public key that is another's, written another way");
  const theirs = await subtle.importKey("raw", publicKey, { name: "X25519" }, false, []);
  const shared = await orNullIfRefused(() => subtle.deriveBits({ name: "X25519", public: theirs }, privateKey, 256));
  if (shared === null || new Uint8Array(shared).every((octet) => octet === 0)) {
    throw new UnsoundKey("a public key of small order: anyone could know the shared value");
  }
  return new Uint8Array(shared);
}

/** Returns whether a key can be agreed on with this X25519 public key of 32 bytes. */
export async function isSound(publicKey: Bytes): Promise<boolean> {
  try {
    await exchange((await x25519Pair(random(32))).privateKey, publicKey);
    return true;
  } catch (error) {
    if (error instanceof UnsoundKey) return false;
    throw error;
  }
}

/** Whether a little-endian number of 32 bytes is below 2**255 - 19. */
function isBelowPrime(octets: Bytes): boolean {
  const isFull = octets.subarray(1, 31).every((octet) => octet === 255);
  return octets[31]! < 127 || (octets[31] === 127 && !(isFull && octets[0]! >= 237));
}

export const sign = async (identity: CryptoKey, body: Bytes): Promise<Bytes> =>
  new Uint8Array(await subtle.sign({ name: "Ed25519" }, identity, body));

/** Returns whether the holder of an identity (an Ed25519 public key) signed exactly these bytes. */
export async function isSigned(signature: Bytes, identity: Bytes, body: Bytes): Promise<boolean> {
  if (hasSmallOrder(identity)) return false;
  const found = await orNullIfRefused(async () => {
    const key = await subtle.importKey("raw", identity, { name: "Ed25519" }, false, ["verify"]);
    return subtle.verify({ name: "Ed25519" }, key, signature, body);
  });
  return found ?? false;
}

/** Returns whether anyone can sign for an Ed25519 public key, since its point has an order of 8 or less. */
export const hasSmallOrder = (identity: Uint8Array): boolean =>
  identity.length === 32 && SMALL_ORDER.has(hex(identity.map((octet, place) => (place === 31 ? octet & 0x7f : octet))));

/** Returns nonce | AES-256-GCM ciphertext | tag; the nonce has 12 bytes. */
export async function sealed(plain: Bytes, key: Bytes, nonce: Bytes, bound: Bytes): Promise<Bytes> {
  const imported = await subtle.importKey("raw", key, "AES-GCM", false, ["encrypt"]);
  return concat(nonce, new Uint8Array(await subtle.encrypt({ name: "AES-GCM", iv: nonce, additionalData: bound }, imported, plain)));
}

/** Returns what was sealed, or null if the bytes were changed or sealed under another key or for another purpose. */
export async function opened(whole: Bytes, key: Bytes, bound: Bytes): Promise<Bytes | null> {
  const imported = await subtle.importKey("raw", key, "AES-GCM", false, ["decrypt"]);
  const parameters = { name: "AES-GCM", iv: whole.slice(0, 12), additionalData: bound };
  const plain = await orNullIfRefused(() => subtle.decrypt(parameters, imported, whole.slice(12)));
  return plain === null ? null : new Uint8Array(plain);
}

/** Returns null where WebCrypto refuses the values that it was given; a curve that it does not know is another error. */
async function orNullIfRefused<T>(operation: () => Promise<T>): Promise<T | null> {
  try {
    return await operation();
  } catch (error) {
    if (error instanceof DOMException && (error.name === "OperationError" || error.name === "DataError")) return null;
    throw error;
  }
}
