import assert from "node:assert/strict";
import { test } from "node:test";
import around from "../../../conformance/participant.json";
import vectors from "../../../conformance/split.json";
import { seal } from "../src/hpke.ts";
import { ascii, fromHex, hex, random } from "../src/primitives.ts";
import { runName } from "../src/run_name.ts";
import { maskForSplit, type SplitOptions } from "../src/split.ts";
import { decodeTerms, helpersDigest, termsDigest } from "../src/split_messages.ts";
import { identityKey, refused, replayed } from "./vectors.ts";

const CLIENT = around.client_id;
const { participant: TALK } = vectors;
const HELPERS = TALK.helpers.map(fromHex);
const VECTOR = Uint32Array.from(vectors.uploads[0]!.vector);

interface ToldFields {
  run: string;
  version: number;
  agreed: string;
  num_groups: number;
}

const toldOf = ({ run, version, agreed, num_groups }: ToldFields) => ({
  run: fromHex(run),
  version,
  agreed: fromHex(agreed),
  numGroups: num_groups,
});

async function options(changed: Partial<SplitOptions> = {}): Promise<SplitOptions> {
  const key = await identityKey(around.identity);
  return { clientId: CLIENT, key, helpers: HELPERS, minContributions: TALK.min_survivors, answered: new Set(), random, ...changed };
}

test("a sealed seed, byte for byte", async () => {
  const { public: key, info, plain, aad, ephemeral, sealed } = vectors.hpke;
  const found = await seal(fromHex(key), fromHex(info), fromHex(plain), fromHex(aad), replayed([ephemeral]));
  assert.equal(hex(found), sealed);
});

test("a run's name, whatever its numbers and texts look like", async () => {
  for (const { config, words, name } of vectors.runs) {
    assert.equal(hex(await runName(ascii(config), words)), name, config.slice(0, 80));
  }
});

test("settings in another writing name no run", async () => {
  const { config, words } = vectors.runs[0]!;
  for (const changed of [`${config} `, config.replace(":0,", ": 0,"), config.replace("}}", '},"new":{}}'), config.slice(0, -1), ""]) {
    await refused(() => runName(ascii(changed), words), "WireError", /not written as this fedkeys writes it$/);
  }
});

test("an upload, byte for byte, for one helper and for three", async () => {
  for (const upload of vectors.uploads) {
    const [helpers, terms] = [upload.helpers.map(fromHex), fromHex(upload.terms)];
    assert.equal(hex(await helpersDigest(helpers)), upload.helpers_digest);
    assert.equal(hex(await termsDigest(decodeTerms(terms))), upload.terms_digest);
    const before = VECTOR.slice();
    const answer = await maskForSplit(terms, VECTOR, toldOf(upload.told), await options({ helpers, random: replayed(upload.draws) }));
    assert.equal(hex(answer), upload.answer);
    assert.deepEqual(VECTOR, before); // the unmasked vector stays as it was
  }
});

test("two uploads of one vector share no word: masks are drawn anew", async () => {
  const { terms, told } = vectors.uploads[0]!;
  const words = async () => hex(await maskForSplit(fromHex(terms), VECTOR, toldOf(told), await options())).slice(-2 * VECTOR.byteLength);
  assert.notEqual(await words(), await words());
});

test("the rounds that a client refuses", async (context) => {
  for (const { lie, terms, told, is_answered, error, text } of vectors.refusals) {
    await context.test(lie, async () => {
      const answered = new Set(is_answered ? [`${told.run} ${told.version}`] : []);
      const before = answered.size;
      const own = await options({ answered, random: () => assert.fail("a seed was drawn") });
      await refused(() => maskForSplit(fromHex(terms), VECTOR, toldOf(told), own), error, text);
      assert.equal(answered.size, before);
    });
  }
});

test("a client masks one vector for a round, and not a second one", async () => {
  const { terms, told } = vectors.uploads[0]!;
  const own = await options();
  await maskForSplit(fromHex(terms), VECTOR, toldOf(told), own);
  await refused(() => maskForSplit(fromHex(terms), VECTOR, toldOf(told), own), "RoundAnswered", /^round 7 came before/);
});
