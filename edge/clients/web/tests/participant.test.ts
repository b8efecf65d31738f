// Over 300 lines: what a participant answers and what it refuses, over one set of vectors.
import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/participant.json";
import { demandsFor } from "../src/demands.ts";
import { agreedDigest, PLAN, SETUP, STEP } from "../src/messages.ts";
import { Participant, type Journal, type Observer, type ParticipantOptions, type Train } from "../src/participant.ts";
import { ascii, fromHex, hex, random, type Bytes } from "../src/primitives.ts";
import { roundingOf } from "./pcg64.ts";
import { identityKey, refused, replayed } from "./vectors.ts";

const ROSTER = new Map(Object.entries(vectors.roster).map(([name, key]) => [name, fromHex(key)]));
const DEMANDS = demandsFor(ROSTER.size); // otherwise the default settings' policy, as in the vectors
const setup = fromHex(vectors.setup);

class Memory implements Journal {
  readonly rounds = new Map<string, number>();

  async lastRound(seed: string): Promise<number> {
    return this.rounds.get(seed) ?? 0;
  }

  async spend(seed: string, round: number): Promise<void> {
    this.rounds.set(seed, round);
  }
}

const quarter: Train = async (weights) => ({
  delta: weights.map((tensor) => tensor.map((weight) => weight * vectors.trained.scale)),
  numTokens: vectors.trained.num_tokens,
  numExamples: vectors.trained.num_examples,
});
const silent: Observer = { stage: () => undefined, left: () => undefined, refused: () => undefined };

async function participant(changed: Partial<ParticipantOptions> = {}): Promise<Participant> {
  const key = await identityKey(vectors.identity);
  const clientId = vectors.client_id;
  const uniform = (seed: string, round: number) => roundingOf(seed, round, clientId);
  const rest = { demands: DEMANDS, journal: new Memory(), train: quarter, observer: silent, answerStepMs: 0, uniform };
  return new Participant({ clientId, key, roster: ROSTER, ...rest, ...changed });
}

const wireOf = (named: string): Bytes => (named === "setup" ? setup : fromHex(named));

test("a conversation of two rounds, one of them declined, byte for byte", async () => {
  const [told, left]: [string[], string[]] = [[], []];
  const observer: Observer = {
    stage: (round, stage) => told.push(`${round} ${stage}`),
    left: ({ round, stage, bytes, numbers }) => left.push(`${round} ${stage} ${bytes} ${numbers.length}`),
    refused: () => assert.fail("an honest server is not refused"),
  };
  const client = await participant({ random: replayed(vectors.draws), observer });
  for (const { message, answer } of vectors.conversation) {
    const found = await client.answer(fromHex(message));
    assert.equal(found && hex(found), answer);
  }
  assert.equal(client.goodbye, "all rounds are done\\n\\x1b\\u202e");
  const answers = vectors.conversation.flatMap(({ answer }) => (answer === null ? [] : [answer]));
  assert.equal(left.length, answers.length);
  assert.deepEqual(told.slice(0, 2), ["1 train", "1 advertise"]);
  assert.equal(left[0], `1 train ${answers[0]!.length / 2} 0`);
  assert.deepEqual(left.filter((line) => !line.endsWith(" 0")).map((line) => line.split(" ")[1]), ["upload"]);
});

test("what all clients of a round must have heard", async () => {
  const plan = fromHex(vectors.conversation[1]!.message);
  assert.equal(hex(await agreedDigest(setup, plan)), vectors.agreed);
});

test("the table of lies", async (context) => {
  for (const { lie, messages, error, text } of vectors.refusals) {
    await context.test(lie, async () => {
      const refusals: string[] = [];
      const client = await participant({ observer: { ...silent, refused: (why) => refusals.push(why) } });
      for (const message of messages.slice(0, -1)) await client.answer(wireOf(message));
      await refused(() => client.answer(wireOf(messages.at(-1)!)), error, pythonic(text));
      assert.equal(refusals.length, 1);
    });
  }
});

/** JavaScript writes a float without its ".0", as in "a learning rate of -1.0". */
const pythonic = (text: string): string => text.replace(/ -1\.0,/, " -1,");

// A browser trains with the exported model, which has no proximal term and no dropout; that a group of a run is large
// enough is checked with its invitation.
const STRICTER = new Set(["client.proximal", "client.dropout"]);
const LAXER = new Set(["aggregation.groups"]);

test("each setting takes and refuses the values that Python's does", async () => {
  const { config, words } = SETUP.decode(setup, 1 << 20);
  const text = new TextDecoder().decode(config);
  const seed = /"seed":\d+/.exec(text)![0];
  let count = 0;
  for (const [setting, outcomes] of Object.entries(vectors.settings)) {
    const [section, name] = setting.split(".") as [string, string];
    for (const [place, expected] of outcomes.entries()) {
      const settings = JSON.parse(text) as Record<string, Record<string, unknown>>;
      settings[section]![name] = vectors.values[place];
      const changed = new TextEncoder().encode(JSON.stringify(settings).replace(/"seed":\d+/, seed)) as Bytes;
      const client = await participant();
      const found = await client.answer(SETUP.encode({ config: changed, words })).then(() => "", (error: Error) => error.name);
      const where = `${setting} = ${JSON.stringify(vectors.values[place])}`;
      if (STRICTER.has(setting) && expected === "") assert.ok(["", "DemandRefused"].includes(found), where);
      else if (LAXER.has(setting) && expected === "DemandRefused") assert.ok(["", "DemandRefused"].includes(found), where);
      else assert.equal(found, expected, where);
      count += 1;
    }
  }
  assert.ok(count > 600);
});

test("a seed keeps all its digits, and stands where Python writes it", async () => {
  const { config, words } = SETUP.decode(setup, 1 << 20);
  const text = new TextDecoder().decode(config);
  const journal = new Memory();
  const client = await participant({ journal });
  await client.answer(setup);
  await client.answer(fromHex(vectors.conversation[1]!.message));
  assert.deepEqual([...journal.rounds], [["9223372036854775803", 1]]);
  const highest = new TextEncoder().encode(text.replace(/"seed":\d+/, `"seed":${2n ** 63n - 1n}`)) as Bytes;
  assert.equal(await (await participant()).answer(SETUP.encode({ config: highest, words })), null);
  for (const seed of ["-1", "1.5", "01", "9223372036854775808", '"1"', "null", "1e3"]) {
    const changed = new TextEncoder().encode(text.replace(/"seed":\d+/, `"seed":${seed}`)) as Bytes;
    const another = await participant();
    await refused(() => another.answer(SETUP.encode({ config: changed, words })), "WireError");
  }
});

test("settings that this version does not know, and one that is missing", async () => {
  const { config, words } = SETUP.decode(setup, 1 << 20);
  const text = new TextDecoder().decode(config);
  for (const [from, to] of [['"max_words":20,', ""], ['"max_words":20,', '"max_words":20,"new":1,'], ["}}", '},"new":{}}']] as const) {
    assert.ok(text.includes(from));
    const changed = new TextEncoder().encode(text.replace(from, to)) as Bytes;
    const client = await participant();
    await refused(() => client.answer(SETUP.encode({ config: changed, words })), "WireError", /not one of this fedkeys/);
  }
});

test("settings that are no sections, and a configuration that is no object", async () => {
  const { config, words } = SETUP.decode(setup, 1 << 20);
  const text = new TextDecoder().decode(config);
  const broken = ["null", "[]", "5", '"text"', "", text.replace(/"rounds":\{[^}]*\}/, '"rounds":null'), text.replace(/"rounds":\{[^}]*\}/, '"rounds":[]')];
  for (const changed of broken.map((own) => new TextEncoder().encode(own) as Bytes)) {
    const client = await participant();
    await refused(() => client.answer(SETUP.encode({ config: changed, words })), "WireError", /not one of this fedkeys/);
  }
  const latin = config.slice();
  latin[latin.indexOf(0x63)] = 0xff; // no UTF-8
  const client = await participant();
  await refused(() => client.answer(SETUP.encode({ config: latin, words })), "WireError", /not one of this fedkeys/);
});

test("a run that the exported model does not train, and one with noise or a clip that moves", async () => {
  const { config, words } = SETUP.decode(setup, 1 << 20);
  const text = new TextDecoder().decode(config);
  for (const [from, to, why] of [
    ['"dropout":0.0', '"dropout":0.1', /without dropout and FedProx$/],
    ['"proximal":0.0', '"proximal":0.1', /without dropout and FedProx$/],
    ['"mechanism":"none"', '"mechanism":"central"', /one clip norm and no noise$/],
    ['"adaptive_clip":false', '"adaptive_clip":true', /one clip norm and no noise$/],
  ] as const) {
    assert.ok(text.includes(from));
    const client = await participant();
    const sent = SETUP.encode({ config: new TextEncoder().encode(text.replace(from, to)) as Bytes, words });
    await refused(() => client.answer(sent), "DemandRefused", why);
  }
});

test("a model beyond what fedkeys trains is refused, whatever the client allows", async () => {
  const { config, words } = SETUP.decode(setup, 1 << 20);
  const text = new TextDecoder().decode(config).replace(/"num_cells":5/, '"num_cells":20000000');
  const noLimits = { maxWeights: Infinity, maxMinutes: Infinity, maxMemoryMib: Infinity };
  const client = await participant({ demands: { ...DEMANDS, ...noLimits } });
  const sent = SETUP.encode({ config: new TextEncoder().encode(text) as Bytes, words });
  await refused(() => client.answer(sent), "DemandRefused", /^the server's settings can't be trained with: the model would have/);
});

test("a model whose weights a machine word can't count", async () => {
  const { config, words } = SETUP.decode(setup, 1 << 20);
  const text = new TextDecoder().decode(config).replace(/"num_cells":5/, '"num_cells":2147483647').replace(/"embedding_size":3/, '"embedding_size":2147483647');
  const client = await participant();
  await refused(() => client.answer(SETUP.encode({ config: new TextEncoder().encode(text) as Bytes, words })), "DemandRefused", /weights in the model, this client allows/);
});

test("a client lowers its limits", async () => {
  for (const [limits, text] of [
    [{ maxSentences: 199 }, /asks for up to 200 sentences to train on in a round, this client allows 199$/],
    [{ maxMinutes: 0.00001 }, /asks for up to 1 minutes of training in a round, this client allows 1e-05$/],
    [{ maxMemoryMib: 0 }, /asks for up to 1 MiB of memory, this client allows 0$/],
    [{ maxCohort: 4 }, /5 clients in a round, this client allows 4$/],
    [{ maxWeights: 175 }, /176 weights in the model, this client allows 175$/],
  ] as const) {
    const client = await participant({ demands: { ...DEMANDS, ...limits } });
    await refused(() => client.answer(setup), "DemandRefused", text);
  }
});

test("a client does as much as it allows", async () => {
  const limits = { maxCohort: 5, maxEpochs: 1, maxSentences: 200, maxBatchTokens: 40, maxWeights: 176, maxMinutes: 1, maxMemoryMib: 1 };
  const client = await participant({ demands: { ...DEMANDS, ...limits } });
  assert.equal(await client.answer(setup), null);
  const { weights, terms } = PLAN.decode(fromHex(vectors.conversation[1]!.message), 1 << 20);
  const largest = weights.slice();
  new Float32Array(largest.buffer)[0] = -1000;
  assert.ok(await client.answer(PLAN.encode({ roundNum: 3, learningRate: 10, weights: largest, terms })));
});

test("no answer tells whether training diverged: it is zeros with weight 0", async () => {
  const seen: (Uint8Array | null)[] = [];
  for (const bad of [0, NaN, Infinity]) {
    const train: Train = async (weights, round, run) => {
      const trained = await quarter(weights, round, run);
      trained.delta[1]![3] = bad;
      return trained;
    };
    const client = await participant({ train });
    await client.answer(setup);
    seen.push(await client.answer(fromHex(vectors.conversation[1]!.message)));
    const vector = (client as unknown as { vector: Uint32Array }).vector;
    assert.equal(vector.every((word) => word === 0), bad !== 0);
  }
  assert.deepEqual(seen[1], seen[0]);
  assert.deepEqual(seen[2], seen[0]);
});

test("a sum of another length", async () => {
  const client = await participant();
  await client.answer(setup);
  const plan = fromHex(vectors.conversation[1]!.message);
  await client.answer(plan);
  const masking = { mask: () => Promise.reject(new RangeError("vector must be uint32 [178]")) }; // of a session for that length
  Object.assign(client, { secagg: masking });
  const upload = STEP.encode({ roundNum: 1, stage: "upload", body: new Uint8Array(0) });
  await refused(() => client.answer(upload), "DemandRefused", /^round 1, upload: the server sums vectors of another length: vector must/);
});

test("a round is spent before it is trained, and a journal that can't be written stops the answer", async () => {
  const journal = new Memory();
  const train: Train = async () => {
    assert.deepEqual([...journal.rounds.values()], [1]);
    throw new Error("out of memory");
  };
  const client = await participant({ journal, train });
  await client.answer(setup);
  const plan = fromHex(vectors.conversation[1]!.message);
  await assert.rejects(client.answer(plan), /out of memory/);
  await refused(() => client.answer(plan), "SessionReplayed");
  const broken = await participant({ journal: { lastRound: async () => 0, spend: () => Promise.reject(new Error("full")) } });
  await broken.answer(setup);
  await assert.rejects(broken.answer(plan), /full/);
});

test("two plans at once are answered one after the other", async () => {
  const client = await participant();
  await client.answer(setup);
  const plan = fromHex(vectors.conversation[1]!.message);
  const settled = await Promise.allSettled([client.answer(plan), client.answer(plan)]);
  assert.deepEqual(settled.map((one) => one.status), ["fulfilled", "rejected"]);
});

test("an answer that depends on the text leaves after a whole step", async () => {
  const client = await participant({ answerStepMs: 40 });
  await client.answer(setup);
  const started = performance.now();
  await client.answer(fromHex(vectors.conversation[1]!.message));
  assert.ok(performance.now() - started >= 39);
});

test("a roster without this client, or with another key of it", async () => {
  const others = new Map([...ROSTER].filter(([name]) => name !== vectors.client_id));
  const [missing, changed] = [await participant({ roster: others }), await participant({ roster: new Map([...others, [vectors.client_id, others.get("client 1")!]]) })];
  await refused(() => missing.answer(setup), "KeysError", /^the roster has no client client 0/);
  await refused(() => changed.answer(setup), "KeysError", /is not this browser's/);
});

const NAMES = ["WireError", "RunChanged", "DemandRefused", "SessionReplayed", "UnexpectedMessage", "WeakParameters"];
const MORE_NAMES = ["RosterRefused", "SharesRefused", "SurvivorsRefused", "SplitView", "AliveAndDead"];

test("changed bytes of every message are answered or refused by name", async () => {
  const honest = vectors.conversation.map(({ message }) => fromHex(message));
  for (let round = 0; round < 300; round += 1) {
    const client = await participant();
    const place = round % honest.length;
    const changed = honest[place]!.slice();
    for (const [at, high, by] of [random(3), random(3)] as unknown as [number, number, number][]) {
      changed[(256 * high + at) % changed.length]! ^= by;
    }
    const sent = [...(place > 0 ? [setup] : []), ...(place > 1 ? [honest[1]!] : []), changed];
    for (const message of sent) await client.answer(message).catch(named);
  }
});

function named(error: Error): void {
  assert.ok([...NAMES, ...MORE_NAMES].includes(error.name), `${error.stack}`);
}

test("a run whose words a segmenter cuts is refused by name", async () => {
  const changed = hex(setup).replace(hex(ascii('"segmenter":"none"')), hex(ascii('"segmenter":"icu" ')));
  assert.notEqual(changed, hex(setup));
  const client = await participant();
  await refused(() => client.answer(fromHex(changed)), "DemandRefused", "the run's words can't be cut here: segmenter 'icu' is not in this client");
});

test("a run of another network is refused by name", async () => {
  const changed = hex(setup).replace(hex(ascii('"kind":"cifg"')), hex(ascii('"kind":"gru" ')));
  assert.notEqual(changed, hex(setup));
  const client = await participant();
  await refused(() => client.answer(fromHex(changed)), "DemandRefused", "the run's network can't be trained here: model.kind 'gru' is not in this client");
});
