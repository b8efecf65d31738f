import assert from "node:assert/strict";
import { test } from "node:test";
import around from "../../../conformance/participant.json";
import vectors from "../../../conformance/split.json";
import { demandsFor } from "../src/demands.ts";
import { Participant, type Journal, type Observer, type Train } from "../src/participant.ts";
import { fromHex, hex, random, type Bytes } from "../src/primitives.ts";
import { roundingOf } from "./pcg64.ts";
import { identityKey, refused, replayed } from "./vectors.ts";

const CLIENT = around.client_id;
const { participant: TALK } = vectors;
const HELPERS = TALK.helpers.map(fromHex);

const quarter: Train = async (weights) => ({
  delta: weights.map((tensor) => tensor.map((weight) => weight * around.trained.scale)),
  numTokens: around.trained.num_tokens,
  numExamples: around.trained.num_examples,
});
const silent: Observer = { stage: () => undefined, left: () => undefined, refused: () => undefined };

function memory(): Journal {
  const rounds = new Map<string, number>();
  return { lastRound: async (seed) => rounds.get(seed) ?? 0, spend: async (seed, round) => void rounds.set(seed, round) };
}

async function participant(draws: readonly string[] | null, observer = silent): Promise<Participant> {
  const key = await identityKey(around.identity);
  const roster = new Map(Object.entries(around.roster).map(([name, publicKey]) => [name, fromHex(publicKey)]));
  const uniform = (seed: string, round: number) => roundingOf(seed, round, CLIENT);
  const demands = demandsFor(roster.size, "split");
  const rest = { demands, journal: memory(), train: quarter, observer, answerStepMs: 0, uniform, helpers: HELPERS };
  return new Participant({ clientId: CLIENT, key, roster, random: draws === null ? random : replayed(draws), ...rest });
}

test("two rounds of the split sum, byte for byte: one answer each, and all of it is told", async () => {
  const left: string[] = [];
  const observer: Observer = { ...silent, left: ({ round, stage, bytes }) => left.push(`${round} ${stage} ${bytes}`) };
  const client = await participant(TALK.draws, observer);
  for (const { message, answer } of TALK.conversation) {
    const found = await client.answer(fromHex(message));
    assert.equal(found && hex(found), answer);
  }
  const answers = TALK.conversation.flatMap(({ answer }) => (answer === null ? [] : [answer]));
  assert.deepEqual(left, [`1 train ${answers[0]!.length / 2}`, `3 train ${answers[1]!.length / 2}`]);
});

test("the table of lies around the split sum", async (context) => {
  const wireOf = (named: string): Bytes => fromHex(named === "setup" ? TALK.setup : named);
  for (const { lie, messages, error, text } of TALK.refusals) {
    await context.test(lie, async () => {
      const client = await participant(null);
      for (const message of messages.slice(0, -1)) await client.answer(wireOf(message));
      await refused(() => client.answer(wireOf(messages.at(-1)!)), error, text);
    });
  }
});

test("who insists on secure aggregation takes part in no split sum", async () => {
  const client = await participant(null);
  Object.assign(client, { options: { ...(client as unknown as { options: object }).options, demands: demandsFor(5) } });
  await refused(() => client.answer(fromHex(TALK.setup)), "DemandRefused", /runs the sum 'split', this client takes part in 'secagg' only/);
});
