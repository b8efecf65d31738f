import assert from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../conformance/secagg.json";
import { fromHex, hex, random } from "../src/primitives.ts";
import { SecAggClient } from "../src/secagg.ts";
import { identityKey, policyOf, refused, replayed } from "./vectors.ts";

type Session = (typeof vectors)["complete graph"] | (typeof vectors)["drawn graph"];
type Watched = Session["clients"][number];

const STAGES = ["advertise", "shares", "upload", "consistency", "unmask"];
const complete = vectors["complete graph"];
const first = complete.clients[0]!;

async function clientOf(session: Session, watched: Watched, seen = new Set<string>()): Promise<SecAggClient> {
  const publicKey = fromHex(session.enrolled[watched.index]!);
  const identity = { key: await identityKey(watched.identity), publicKey };
  return new SecAggClient(identity, new Set(session.enrolled), policyOf(session.policy), seen, fromHex(session.agreed), replayed(watched.draws));
}

function answer(client: SecAggClient, stage: string, wire: string, vector: number[]): Promise<Uint8Array> {
  const octets = fromHex(wire);
  if (stage === "advertise") return client.advertise(octets);
  if (stage === "shares") return client.share(octets);
  if (stage === "upload") return client.mask(octets, Uint32Array.from(vector));
  return stage === "consistency" ? client.consent(octets) : client.unmask(octets);
}

const honest = (stage: string): string => first.messages.find((own) => own.stage === stage)!.wire;

for (const [name, session] of Object.entries(vectors)) {
  for (const watched of session.clients) {
    test(`a whole session on the ${name}, byte for byte: client ${watched.index}`, async () => {
      const client = await clientOf(session, watched);
      assert.deepEqual(watched.messages.map((message) => message.stage), STAGES);
      for (const { stage, wire, answer: expected } of watched.messages) {
        assert.equal(hex(await answer(client, stage, wire, watched.vector)), expected, stage);
      }
      assert.equal(client.state, "done");
    });
  }
}

for (const [name, session] of Object.entries(vectors)) {
  test(`the table of lies on the ${name}`, async (context) => {
    const watched = session.clients[0]!;
    const honestly = Object.fromEntries(watched.messages.map(({ stage, wire }) => [stage, wire]));
    for (const { lie, stage, replaced, error, text } of session.refusals) {
      await context.test(`${stage}: ${lie}`, async () => {
        const client = await clientOf(session, watched);
        const told: Record<string, string | undefined> = { ...honestly, ...replaced };
        for (const earlier of STAGES.slice(0, STAGES.indexOf(stage))) {
          await answer(client, earlier, told[earlier]!, watched.vector);
        }
        await refused(() => answer(client, stage, told[stage]!, watched.vector), error, text);
        assert.equal(client.state, "closed");
        assert.deepEqual(secretsOf(client), [undefined, undefined], "the client has forgotten its secrets");
        await refused(() => answer(client, stage, honestly[stage]!, watched.vector), "UnexpectedMessage", /it has refused/);
      });
    }
  });
}

test("the tables are whole", () => {
  const count = Object.values(vectors).reduce((sum, session) => sum + session.refusals.length, 0);
  assert.ok(count > 65, `${count} lies`);
});

test("a client takes only the next message", async () => {
  const client = await clientOf(complete, first);
  for (const stage of STAGES) {
    for (const other of STAGES.filter((own) => own !== stage)) {
      await refused(() => answer(client, other, honest(other), first.vector), "UnexpectedMessage", /^the client waits for/);
    }
    await answer(client, stage, honest(stage), first.vector);
  }
  await refused(() => answer(client, "unmask", honest("unmask"), first.vector), "UnexpectedMessage", /it has unmasked/);
});

test("two messages at once: the second is refused, and the first is answered", async () => {
  const client = await clientOf(complete, first);
  const both = [answer(client, "advertise", honest("advertise"), []), answer(client, "advertise", honest("advertise"), [])];
  const settled = await Promise.allSettled(both);
  assert.deepEqual(settled.map((one) => one.status), ["fulfilled", "rejected"]);
});

test("a session comes once for a device", async () => {
  const seen = new Set<string>();
  await answer(await clientOf(complete, first, seen), "advertise", honest("advertise"), []);
  const again = await clientOf(complete, first, seen);
  await refused(() => answer(again, "advertise", honest("advertise"), []), "SessionReplayed", /was used before$/);
});

test("a vector of another length is an error of the caller", async () => {
  const client = await clientOf(complete, first);
  for (const stage of ["advertise", "shares"]) await answer(client, stage, honest(stage), []);
  await assert.rejects(answer(client, "upload", honest("upload"), [1, 2]), RangeError);
});

test("changed bytes are answered or refused by name, whatever the place", async () => {
  const last = first.messages.length;
  for (let round = 0; round < 200; round += 1) {
    const client = await clientOf(complete, first);
    const place = round % last;
    for (const { stage, wire } of first.messages.slice(0, place)) await answer(client, stage, wire, first.vector);
    const { stage, wire } = first.messages[place]!;
    const changed = fromHex(wire);
    const [at, by, count] = [random(2), random(3), 1 + (random(1)[0]! % 3)];
    for (let i = 0; i < count; i += 1) changed[(at[0]! * 256 + at[1]! + 37 * i) % changed.length]! ^= by[i]!;
    await answerOrRefuse(() => answer(client, stage, hex(changed), first.vector));
  }
});

async function answerOrRefuse(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const named = ["WireError", "UnexpectedMessage", "WeakParameters", "RosterRefused", "SharesRefused", "SurvivorsRefused"];
    named.push("SplitView", "AliveAndDead", "TooFewPeers");
    const isLength = error instanceof RangeError && error.message.startsWith("vector must be uint32"); // of the invitation
    assert.ok(isLength || named.includes((error as Error).name), `${error}`);
  }
}

/** A client's secrets, as a test may look at them. */
function secretsOf(client: SecAggClient): [unknown, unknown] {
  const { secrets, held } = client as unknown as { secrets: unknown; held: unknown };
  return [secrets, held];
}
