import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/primitives.json";
import { addMasks } from "../src/masks.ts";
import { proofBytes } from "../src/messages.ts";
import * as primitives from "../src/primitives.ts";
import { fromHex, hex } from "../src/primitives.ts";
import * as keys from "../src/secagg_keys.ts";
import { boundSession, fromBitmap } from "../src/secagg_messages.ts";
import { split } from "../src/shamir.ts";
import { identityKey, refused, replayed } from "./vectors.ts";

const session = fromHex(vectors.session);

test("SHA-256, HKDF and the bytes that bind a value", async () => {
  for (const { of, digest } of vectors.sha256) assert.equal(hex(await primitives.sha256(fromHex(of))), digest);
  const { secret, info, derived } = vectors.derive;
  assert.equal(hex(await primitives.derive(fromHex(secret), fromHex(info))), derived);
  const { purpose, parties, bytes } = vectors.context;
  assert.equal(hex(keys.context(purpose, session, ...parties)), bytes);
  const { nonce, client_id, bytes: proof } = vectors.proof;
  assert.equal(hex(proofBytes(fromHex(nonce), client_id)), proof);
});

test("X25519 agrees, and refuses every key of small order or of another writing", async () => {
  const { private: raw, public: publicKey, other, shared, small_order, largest, other_writings } = vectors.x25519;
  const pair = await primitives.x25519Pair(fromHex(raw));
  assert.equal(hex(pair.publicKey), publicKey);
  assert.equal(hex(await primitives.exchange(pair.privateKey, fromHex(other))), shared);
  for (const each of largest) assert.equal(hex(await primitives.exchange(pair.privateKey, fromHex(each.key))), each.shared);
  assert.ok(small_order.length >= 3 && other_writings.length >= 3);
  for (const key of [...small_order, ...other_writings]) {
    await assert.rejects(primitives.exchange(pair.privateKey, fromHex(key)), primitives.UnsoundKey);
  }
});

test("Ed25519 signs, and takes no changed signature, body or key", async () => {
  const { private: raw, public: publicKey, body, signature } = vectors.ed25519;
  assert.equal(hex(await primitives.sign(await identityKey(raw), fromHex(body))), signature);
  const holds = (changed: number, place: number) => {
    const parts = [signature, publicKey, body].map(fromHex) as [primitives.Bytes, primitives.Bytes, primitives.Bytes];
    if (changed >= 0) parts[changed]![place]! ^= 1;
    return primitives.isSigned(...parts);
  };
  assert.equal(await holds(-1, 0), true);
  for (const changed of [0, 1, 2]) for (const place of [0, 31]) assert.equal(await holds(changed, place), false);
  assert.equal(await primitives.isSigned(new Uint8Array(3), fromHex(publicKey), fromHex(body)), false);
  assert.equal(await primitives.isSigned(fromHex(signature), new Uint8Array(3), fromHex(body)), false);
});

test("the keys of secure aggregation", async () => {
  const shared = fromHex(vectors.x25519.shared);
  const { one, other, seed } = vectors.pair_mask_seed;
  assert.equal(hex(await keys.pairMaskSeed(shared, session, one, other)), seed);
  assert.equal(hex(await keys.pairMaskSeed(shared, session, other, one)), seed);
  const own = vectors.self_mask_seed;
  assert.equal(hex(await keys.selfMaskSeed(fromHex(own.secret), session, own.owner)), own.seed);
  const promise = vectors.commitment;
  assert.equal(hex(await keys.commitment(fromHex(promise.secret), session, promise.owner)), promise.value);
  const { share, owner, holder, tag } = vectors.share_tag;
  assert.equal(hex(await keys.shareTag(fromHex(share), session, owner, holder)), tag);
});

test("a seal opens for its pair and session only", async () => {
  const { plain, channel, sender, to, nonce, sealed } = vectors.seal;
  const key = fromHex(channel);
  assert.equal(hex(await keys.seal(fromHex(plain), key, session, sender, to, fromHex(nonce))), sealed);
  assert.equal(hex((await keys.unseal(fromHex(sealed), key, session, sender, to))!), plain);
  assert.equal(await keys.unseal(fromHex(sealed), key, session, to, sender), null);
  assert.equal(await keys.unseal(fromHex(sealed), key, new Uint8Array(32), sender, to), null);
  for (const place of [0, 12, 93]) {
    const changed = fromHex(sealed);
    changed[place]! ^= 1;
    assert.equal(await keys.unseal(changed, key, session, sender, to), null);
  }
});

test("masks of more than one chunk, also where the counter wraps; and they cancel", async () => {
  for (const { seed, num_words, first, last, sha256 } of vectors.masks) {
    const vector = new Uint32Array(num_words);
    await addMasks(vector, [{ seed: fromHex(seed), sign: 1 }]);
    assert.deepEqual([...vector.slice(0, 4)], first);
    assert.deepEqual([...vector.slice(-4)], last);
    assert.equal(hex(await primitives.sha256(new Uint8Array(vector.buffer))), sha256);
    await addMasks(vector, [{ seed: fromHex(seed), sign: -1 }]);
    assert.ok(vector.every((word) => word === 0));
  }
});

test("shares of a secret", () => {
  const { secret, threshold, points, draws, shares } = vectors.shamir;
  assert.deepEqual(split(fromHex(secret), threshold, points, replayed(draws)).map(hex), shares);
  for (const [least, wrong] of [[1, [1, 2]], [3, [1, 2]], [2, [1, 1]], [2, [0, 1]]] as const) {
    assert.throws(() => split(fromHex(secret), least, wrong, primitives.random), RangeError);
  }
});

test("bitmaps, and what binds a session", async () => {
  for (const { indices, num_clients, bits } of vectors.bitmaps) {
    assert.deepEqual([...fromBitmap(fromHex(bits), num_clients)].sort((a, b) => a - b), indices);
    await refused(async () => fromBitmap(fromHex(`${bits}00`), num_clients), "WireError");
  }
  const { agreed, everyone, complete, drawn } = vectors.bound_session;
  const credentials = everyone.map((fields) => {
    const [index, ...rest] = fields as [number, string, string, string];
    const [identity, channelKey, maskKey] = rest.map(fromHex) as [primitives.Bytes, primitives.Bytes, primitives.Bytes];
    return { index, identity, channelKey, maskKey, signature: new Uint8Array(64) };
  });
  assert.equal(hex(await boundSession(session, fromHex(agreed), credentials)), complete);
  assert.equal(hex(await boundSession(session, fromHex(agreed), [])), drawn);
});

test("randomness of any length is not zero", () => {
  const drawn = primitives.random(200_000);
  for (const at of [0, 65_536, 131_072, 199_900]) assert.ok(drawn.subarray(at, at + 100).some((octet) => octet !== 0));
});

test("nobody signs for a public key of small order, however it is written", async () => {
  const ys = ["00".repeat(32), "01" + "00".repeat(31), "ec" + "ff".repeat(30) + "7f", "ed" + "ff".repeat(30) + "7f", "ee" + "ff".repeat(30) + "7f"];
  ys.push("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
  ys.push("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
  for (const y of ys) {
    const key = fromHex(y);
    for (const sign of [0, 0x80]) {
      key[31] = (key[31]! & 0x7f) | sign;
      assert.ok(primitives.hasSmallOrder(key));
    }
  }
  const one = fromHex("01" + "00".repeat(31)); // R = the key, S = 0: holds for any message, by the equation alone
  assert.equal(await primitives.isSigned(fromHex("01" + "00".repeat(63)), one, fromHex("07")), false);
});
