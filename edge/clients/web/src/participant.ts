// Answers the server's messages as one client, as orchestrator/network/client.py; knows nothing of connections. The client's
// text, update and keys stay here: only what the protocol sends leaves, masked or encrypted.

import * as demands from "./demands.ts";
import type { Demands } from "./demands.ts";
import { Encoder, buildEncoder, clientWeight, l2Norm, secureUniform, type Uniform } from "./encoder.ts";
import { DemandRefused, KeysError, RunChanged, SessionReplayed, TooFewPeers, WireError } from "./errors.ts";
import { firstNumbers } from "./left.ts";
import * as messages from "./messages.ts";
import { DEFAULT_STEP_MS, held } from "./pace.ts";
import { equal, hex, isSigned, random as secureRandom, sign, type Bytes, type Random } from "./primitives.ts";
import { runName } from "./run_name.ts";
import { SecAggClient } from "./secagg.ts";
import { maskForSplit } from "./split.ts";
import { checkTrainable, numWeights, readRun, shapesOf, type ModelSize, type RunSettings } from "./settings.ts";
import { parted } from "./tensors.ts";

/** What training gives: the update in the model's order, and what it was trained on. */
export interface Trained {
  readonly delta: Float32Array[];
  readonly numTokens: number;
  readonly numExamples: number;
}

interface RoundInfo {
  readonly roundNum: number;
  readonly learningRate: number;
  readonly seed: string;
}

export type Train = (weights: Float32Array[], round: RoundInfo, run: RunSettings) => Promise<Trained>;

/**
 * The rounds that this client answered, by the run's seed. `spend` returns once the round stands in durable storage: an
 * answer leaves only then. The last round of a seed that was never spent is 0. Two tabs must not hold one journal at once.
 */
export interface Journal {
  lastRound(seed: string): Promise<number>;
  spend(seed: string, round: number): Promise<void>;
}

/** An answer that leaves the browser, and of an upload the first masked numbers. */
interface Left {
  readonly round: number;
  readonly stage: string;
  readonly bytes: number;
  readonly numbers: readonly number[];
}

export interface Observer {
  stage(round: number, stage: string): void;
  left(what: Left): void;
  refused(why: string): void;
}

export interface ParticipantOptions {
  readonly clientId: string;
  readonly key: CryptoKey; // Ed25519, private
  readonly roster: ReadonlyMap<string, Uint8Array>; // who may take part: {client: public key}, this client among them
  readonly demands: Demands;
  readonly helpers?: readonly Bytes[]; // of the split sum, all of whom it seals for
  readonly journal: Journal;
  readonly train: Train;
  readonly observer: Observer;
  readonly answerStepMs?: number; // see pace.ts
  readonly random?: Random; // a test's
  readonly uniform?: (seed: string, round: number) => Uniform; // a test's
}

/** What a Setup fixes for all rounds. */
interface Run {
  readonly setup: Bytes;
  readonly settings: RunSettings;
  readonly encoder: Encoder;
  readonly name: Bytes; // in the split sum; empty in others
}

const SHOWN_NUMBERS = 6;

export class Participant {
  /** Why the server let the client go. */
  goodbye: string | null = null;
  private readonly enrolled: ReadonlySet<string>;
  private readonly seenSessions = new Set<string>();
  private readonly answered = new Set<string>(); // the runs and rounds of the split sum
  private run?: Run;
  private agreed: Bytes = new Uint8Array(0);
  private roundNum = 0; // of the last plan
  private secagg?: SecAggClient;
  private vector?: Uint32Array;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly options: ParticipantOptions) {
    this.enrolled = new Set([...options.roster.values()].map(hex));
  }

  /**
   * Returns the answer to the server's message, or null if the message wants none. Messages are answered one at a time.
   *
   * Throws a FedkeysError that says what the client refuses; the caller hangs up then.
   */
  answer(message: Uint8Array): Promise<Uint8Array | null> {
    const copied = new Uint8Array(message); // nobody else changes it while it is answered
    const answered = this.turn.then(() => this.answerNext(copied));
    this.turn = answered.catch(() => undefined);
    return answered;
  }

  private async answerNext(message: Bytes): Promise<Bytes | null> {
    try {
      const found = messages.decodeToClient(message);
      if (found.kind === "goodbye") {
        this.goodbye = messages.asOneLine(found.fields.reason);
        return null;
      }
      if (found.kind === "setup") {
        await this.setUp(found.fields, message);
        return null;
      }
      return await this.answerRound(found, message);
    } catch (error) {
      this.options.observer.refused(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  private async answerRound(found: messages.ToClient & { kind: "plan" | "step" }, message: Bytes): Promise<Bytes> {
    const { roundNum } = found.fields;
    const stage = found.kind === "plan" ? "train" : found.fields.stage;
    this.options.observer.stage(roundNum, stage);
    let answer: Bytes;
    let numbers: number[] = [];
    try {
      const body = found.kind === "plan" ? await this.train(found.fields, message) : await this.step(found.fields);
      answer = messages.ANSWER.encode({ roundNum, stage, body });
      numbers = firstNumbers(body, SHOWN_NUMBERS);
    } catch (error) {
      if (!(error instanceof TooFewPeers)) throw error; // happens to an honest server too: not this round
      this.forgetRound();
      answer = messages.DECLINE.encode({ roundNum, stage, reason: error.message });
    }
    this.options.observer.left({ round: roundNum, stage, bytes: answer.length, numbers });
    return answer;
  }

  private async setUp(setup: messages.Setup, message: Bytes): Promise<void> {
    if (this.run) {
      if (equal(message, this.run.setup)) return;
      throw new RunChanged("the server sent another configuration or vocabulary than it began with");
    }
    const settings = readRun(setup.config, setup.words);
    const { demands: own, helpers = [] } = this.options;
    demands.checkRun(own, settings, helpers.length);
    checkTrainable(settings.size);
    const encoder = encoderOf(settings);
    await this.checkOwnKey();
    const name = own.aggregator === "split" ? await runName(setup.config, setup.words) : new Uint8Array(0);
    this.run = { setup: message, settings, encoder, name };
  }

  /** Trains, encodes the update and resets the protocol; in the split sum the upload is the answer. */
  private async train(plan: messages.Plan, message: Bytes): Promise<Bytes> {
    const { run, options } = this;
    const { roundNum } = plan;
    if (!run) throw new WireError(`round ${roundNum}: the server has sent no configuration before`);
    this.agreed = await messages.agreedDigest(run.setup, message);
    demands.checkRound(roundNum, run.settings);
    this.forgetRound();
    await this.spend(run.settings.seed, roundNum); // before anything leaves, or takes a time that could be seen
    this.roundNum = roundNum;
    const weights = weightsOf(plan, run.settings.size);
    demands.checkPlan(options.demands, roundNum, plan.learningRate, weights);
    const round = { roundNum, learningRate: plan.learningRate, seed: run.settings.seed };
    return held(options.answerStepMs ?? DEFAULT_STEP_MS, async () => {
      const vector = this.encoded(await options.train(weights, round, run.settings), run, roundNum);
      if (options.demands.aggregator === "split") return this.mask(plan, vector, run);
      this.vector = vector;
      return new Uint8Array(0);
    });
  }

  private async mask({ roundNum, terms }: messages.Plan, vector: Uint32Array, { settings, name }: Run): Promise<Bytes> {
    const { clientId, key, demands: own, helpers = [], random = secureRandom } = this.options;
    const told = { run: name, version: roundNum, agreed: this.agreed, numGroups: settings.settings.aggregation.groups };
    const minContributions = own.policy.minSurvivors;
    try {
      return await maskForSplit(terms, vector, told, { clientId, key, helpers, minContributions, answered: this.answered, random });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new DemandRefused(`round ${roundNum}: the server sums other vectors: ${error.message}`);
    }
  }

  private async spend(seed: string, roundNum: number): Promise<void> {
    const last = await this.options.journal.lastRound(seed);
    if (roundNum <= last) {
      throw new SessionReplayed(
        `round ${roundNum} came before: this client has answered up to round ${last} of a run with this seed, and is ` +
          "summed once in a round; a new run needs another seed (serve --seed)",
      );
    }
    await this.options.journal.spend(seed, roundNum);
  }

  private encoded(trained: Trained, { settings, encoder }: Run, roundNum: number): Uint32Array {
    let { delta } = trained;
    let weight = clientWeight(settings.settings.client.weighting, trained.numTokens, trained.numExamples);
    if (!Number.isFinite(l2Norm(delta))) {
      // A server may send weights that overflow for one word only: nothing that leaves here tells whether.
      delta = delta.map((tensor) => new Float32Array(tensor.length));
      weight = 0;
    }
    return encoder.encode(delta, weight, this.options.uniform?.(settings.seed, roundNum) ?? secureUniform);
  }

  /** One message of the protocol and its answer. */
  private async step({ roundNum, stage, body }: messages.Step): Promise<Bytes> {
    const where = `round ${roundNum}, ${stage}`;
    if (this.roundNum === 0) throw new WireError(`${where}: the server has sent no plan before`);
    if (roundNum !== this.roundNum) throw new WireError(`${where}: the server's last plan was for round ${this.roundNum}`);
    const known = demands.checkedStage(this.options.demands, stage, where);
    if (known === "advertise") {
      this.secagg = this.invitedClient(where);
      return this.secagg.advertise(body);
    }
    if (known === "upload") return this.upload(body, where);
    const secagg = this.requireSecagg(where);
    if (known === "shares") return secagg.share(body);
    return known === "consistency" ? secagg.consent(body) : secagg.unmask(body);
  }

  private async upload(body: Bytes, where: string): Promise<Bytes> {
    const { vector } = this;
    delete this.vector; // given away once
    if (!vector) throw new WireError(`${where}: the server has sent no plan before`);
    try {
      return await this.requireSecagg(where).mask(body, vector);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new DemandRefused(`${where}: the server sums vectors of another length: ${error.message}`);
    }
  }

  private invitedClient(where: string): SecAggClient {
    const { options, run } = this;
    if (!run) throw new WireError(`${where}: the server has sent no configuration before`);
    const maxClients = Math.min(run.settings.settings.rounds.cohort_size, this.enrolled.size);
    const policy = { ...options.demands.policy, maxClients };
    const identity = { key: options.key, publicKey: this.publicKey() };
    return new SecAggClient(identity, this.enrolled, policy, this.seenSessions, this.agreed, options.random ?? secureRandom);
  }

  private requireSecagg(where: string): SecAggClient {
    if (!this.secagg) throw new WireError(`${where}: the server has sent no invitation before`);
    return this.secagg;
  }

  private forgetRound(): void {
    delete this.secagg;
    delete this.vector;
  }

  private publicKey(): Bytes {
    const { clientId, roster } = this.options;
    const found = roster.get(clientId);
    if (!found) throw new KeysError(`the roster has no client ${clientId}: enrol again`);
    return new Uint8Array(found);
  }

  /** Passes if the roster's key for this client is the one that it holds: its peers check its signatures by that. */
  private async checkOwnKey(): Promise<void> {
    const body = new Uint8Array(1);
    if (!(await isSigned(await sign(this.options.key, body), this.publicKey(), body))) {
      throw new KeysError(`the roster's key of client ${this.options.clientId} is not this browser's: enrol again`);
    }
  }
}

function encoderOf({ settings, size }: RunSettings): Encoder {
  try {
    return buildEncoder(settings, size);
  } catch (error) {
    if (error instanceof RangeError) throw new DemandRefused(`the server's settings can't be trained with: ${error.message}`);
    throw error;
  }
}

function weightsOf({ roundNum, weights }: messages.Plan, size: ModelSize): Float32Array[] {
  const expected = 4 * numWeights(size);
  if (weights.length !== expected) {
    const of = `ModelSize(vocabulary_size=${size.vocabularySize}, embedding_size=${size.embeddingSize}, num_cells=${size.numCells})`;
    throw new WireError(`round ${roundNum}: raw must hold ${expected} bytes for ${of}, got len(raw)=${weights.length}`);
  }
  return parted(new Float32Array(weights.slice().buffer), shapesOf(size));
}
