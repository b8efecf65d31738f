/** Takes part in the server's rounds, in the worker: the protocol's participant, trained by this device's model. */

import { draw, NUM_SPECIAL, seeded, split, UNK } from "./batches.ts";
import type { Bundle } from "./bundle.ts";
import { demandsFor } from "./demands.ts";
import { takePart } from "./door.ts";
import { serverStatus } from "./enrol.ts";
import { ConnectionLost, DemandRefused, KeysError } from "./errors.ts";
import { Fault } from "./faults.ts";
import { type Journal, Participant, type Trained } from "./participant.ts";
import { fromHex, hex, type Bytes } from "./primitives.ts";
import { untilOver } from "./reconnect.ts";
import { admit, decodeRoster, type Operator, type Roster, type SeenRosters } from "./roster.ts";
import type { JoinOptions, Progress } from "./rpc.ts";
import type { RunSettings } from "./settings.ts";
import * as store from "./store.ts";
import { joined, parted } from "./tensors.ts";
import { breathe, type Trainer } from "./trainer.ts";

const LOCK = "fedkeys.rounds"; // of two tabs one takes part: both have one journal

const journal: Journal = {
  lastRound: async (seed) => (await store.get("journal"))?.[seed] ?? 0,
  spend: (seed, round) => store.change("journal", (before) => ({ ...before, [seed]: round })),
};

async function fetchRoster(base: URL): Promise<Roster> {
  const asked = fetch(new URL("roster.json", base), { cache: "no-store", credentials: "omit" });
  const answer = await asked.catch(() => {
    throw new ConnectionLost("the server was not reached: try again");
  });
  if (!answer.ok) throw new KeysError(`the server has no roster for this browser (${answer.status}): try again when the rounds have begun`);
  return decodeRoster(await answer.text());
}

const seenRosters: SeenRosters = {
  of: async (fingerprint) => (await store.get("rosters"))?.[fingerprint],
  see: (fingerprint, found) =>
    store.change("rosters", (before) => {
      const known = before?.[fingerprint]; // another tab may have seen a newer one meanwhile
      return { ...before, [fingerprint]: known !== undefined && known.number > found.number ? known : found };
    }),
};

/**
 * Returns the helpers of the split sum: those that the operator of this browser's enrolment signed, and nobody that the server
 * names. Throws KeysError if there are none.
 */
export function signedHelpers({ helpers }: Roster, operator: Operator | undefined): readonly Bytes[] {
  if (operator === undefined || helpers.length === 0) {
    throw new KeysError("the operator has signed no helper for this browser, and the split sum needs one: ask the operator");
  }
  return helpers;
}

/** Throws DemandRefused if the run trains another model, or by other steps, than the bundle's train_fixed does. */
export function requireFit(run: RunSettings, bundle: Pick<Bundle, "manifest" | "plan">, rows: number, words: readonly string[]): void {
  const { model } = bundle.manifest;
  const { settings, size } = run;
  const asked = [size.vocabularySize, size.embeddingSize, size.numCells, settings.data.max_words, settings.client.batch_size, settings.client.clip_norm];
  const ours = [model.vocabulary_size, model.embedding_size, model.num_cells, model.max_words, rows, bundle.plan.clip_norm];
  const isSame = asked.every((value, index) => value === ours[index]);
  if (!isSame || !words.every((word, id) => run.words[id] === word)) {
    throw new DemandRefused("the run trains another model than the one that this page has: reload it, or ask the operator");
  }
}

/** Returns the ids of a sentence in the run's word list; words beyond the model's rows are <unk>. */
export function runIds(run: RunSettings): (sentence: string) => number[] {
  const rows = run.words.slice(0, run.size.vocabularySize);
  const ids = new Map(rows.map((word, id) => [word, id] as const).slice(NUM_SPECIAL));
  return (sentence) => sentence.split(" ").map((word) => ids.get(word) ?? UNK);
}

async function trainRound(
  trainer: Trainer,
  weights: readonly Float32Array[],
  learningRate: number,
  { client, data }: RunSettings["settings"],
  text: readonly number[][],
  signal: AbortSignal,
): Promise<Trained> {
  const random = seeded(crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
  const before = joined(weights);
  await trainer.setWeights(before);
  const newest = text.slice(-data.max_sentences_train);
  let numTokens = 0;
  let numExamples = 0;
  for (const batch of draw(newest, client, trainer.rows, trainer.time, random)) {
    signal.throwIfAborted();
    await trainer.step(batch, learningRate);
    numTokens += batch.positions;
    numExamples += batch.examples;
    await breathe();
  }
  const after = await trainer.weights();
  const delta = before.map((value, place) => value - (after[place] ?? Number.NaN));
  return { delta: parted(delta, weights.map(({ length }) => [length])), numTokens, numExamples };
}

/**
 * Takes part until the server says goodbye, and returns its reason. Whenever the connection is lost it connects again. The
 * trainer's weights are the last round's afterwards.
 *
 * Throws FedkeysError, and Fault if another tab takes part already.
 */
export async function takePartHere(
  options: JoinOptions,
  trainer: Trainer,
  bundle: Bundle,
  words: readonly string[],
  signal: AbortSignal,
  tell: (progress: Progress) => void,
): Promise<string> {
  const identity = await store.get("identity");
  if (identity?.isEnrolled !== true) throw new KeysError("this browser is not enrolled: enrol with a code from the operator");
  const base = new URL("./", self.location.href);
  const { train: sentences } = split(await store.kept());
  const roster = await fetchRoster(base);
  const { operator, publicKey } = identity; // a server of before has named no operator: nothing is checked then
  if (operator !== undefined) await admit(roster, operator, identity.clientId, fromHex(publicKey), seenRosters);
  const helpers = options.aggregator === "split" ? signedHelpers(roster, operator) : [];
  const told = { number: roster.number, people: roster.clients.size, isSigned: operator !== undefined };
  tell({ kind: "roster", ...told, helpers: helpers.map(hex) });
  const demands = demandsFor(roster.clients.size, options.aggregator);
  const minSurvivors = Math.max(options.minSurvivors, demands.policy.minSurvivors);
  let ended = signal; // of a connection: ends a training
  let training: Promise<unknown> = Promise.resolve();
  const participant = new Participant({
    clientId: identity.clientId,
    key: identity.keys.privateKey,
    roster: roster.clients,
    helpers,
    demands: { ...demands, policy: { ...demands.policy, minSurvivors } },
    journal,
    train: (weights, round, run) => {
      requireFit(run, bundle, trainer.rows, words);
      const trained = trainRound(trainer, weights, round.learningRate, run.settings, sentences.map(runIds(run)), ended);
      training = trained;
      return trained;
    },
    observer: {
      stage: (round, stage) => tell({ kind: "stage", round, stage }),
      left: (what) => tell({ kind: "left", ...what }),
      refused: () => undefined, // takePart throws what was refused, and the page says it
    },
  });
  const rounds = new URL("rounds", base);
  rounds.protocol = rounds.protocol === "https:" ? "wss:" : "ws:";
  const connect = async (): Promise<string> => {
    const over = new AbortController();
    ended = AbortSignal.any([signal, over.signal]);
    const admitted = (): void => tell({ kind: "connection", isUp: true });
    try {
      return await takePart(rounds.href, participant, { signal, key: identity.keys.privateKey, clientId: identity.clientId, admitted });
    } finally {
      over.abort(); // and nothing waits for it: how soon this client comes back would tell how long it trains
    }
  };
  const lost = (): void => tell({ kind: "connection", isUp: false });
  const isOver = async (): Promise<boolean> => (await serverStatus())?.phase === "done";
  try {
    return await navigator.locks.request(LOCK, { ifAvailable: true }, (lock) => {
      if (lock === null) throw new Fault("otherTab");
      return untilOver(connect, { signal, lost, isOver });
    });
  } finally {
    await training.catch(() => undefined); // whoever waits for it hears of its fault; the weights are free only then
  }
}
