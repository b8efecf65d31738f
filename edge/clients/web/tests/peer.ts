// The browser's participant as a process, for tests of whole rounds: JSON lines in and out. The training is the caller's.
//
//     {"new": {clientId, key, roster, aggregator, helpers}} -> {}
//     {"answer": message}     -> {"train": {weights}} ...  -> {"answered": bytes or null, "goodbye": text or null}
//     {"trained": {delta, numTokens, numExamples}}            or {"error": name, "text": text}
//     {"takePart": url}       -> as for "answer"           -> {"goodbye": text}, with the server's messages over a WebSocket
//
// Bytes travel in base64.

import { createInterface } from "node:readline";
import { demandsFor, type Aggregator } from "../src/demands.ts";
import { takePart } from "../src/door.ts";
import { FedkeysError } from "../src/errors.ts";
import { Participant, type Journal, type Train } from "../src/participant.ts";
import { fromHex } from "../src/primitives.ts";
import { roundingOf } from "./pcg64.ts";
import { identityKey } from "./vectors.ts";

interface Begin {
  clientId: string;
  key: string; // hex
  roster: Record<string, string>;
  aggregator: Aggregator;
  helpers: string[]; // hex
}
interface TrainedLine {
  delta: string[];
  numTokens: number;
  numExamples: number;
}
interface Line {
  new?: Begin;
  answer?: string;
  trained?: TrainedLine;
  takePart?: string;
}

const toBase64 = (octets: Uint8Array): string => Buffer.from(octets).toString("base64");
const fromBase64 = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "base64"));
const tensorBytes = (tensor: Float32Array): Uint8Array => new Uint8Array(tensor.buffer, tensor.byteOffset, tensor.byteLength);
const say = (line: object): boolean => process.stdout.write(`${JSON.stringify(line)}\n`);

let participant: Participant;
let begun: Begin;
let key: CryptoKey;
let onTrained: (line: TrainedLine) => void;

const askForTraining: Train = async (weights, { roundNum, learningRate }) => {
  const trained = new Promise<TrainedLine>((resolve) => {
    onTrained = resolve;
  });
  say({ train: { weights: weights.map((tensor) => toBase64(tensorBytes(tensor))), roundNum, learningRate } });
  const { delta, numTokens, numExamples } = await trained;
  return { delta: delta.map((tensor) => new Float32Array(fromBase64(tensor).buffer)), numTokens, numExamples };
};

function inMemory(): Journal {
  const rounds = new Map<string, number>();
  return {
    lastRound: async (seed) => rounds.get(seed) ?? 0,
    spend: async (seed, round) => void rounds.set(seed, round),
  };
}

async function begin(found: Begin): Promise<void> {
  begun = found;
  key = await identityKey(found.key);
  const { clientId } = found;
  const roster = new Map(Object.entries(found.roster).map(([name, publicKey]) => [name, fromHex(publicKey)]));
  const observer = { stage: () => undefined, left: () => undefined, refused: () => undefined };
  const uniform = (seed: string, round: number) => roundingOf(seed, round, clientId);
  const strict = demandsFor(roster.size, found.aggregator);
  const demands = { ...strict, policy: { ...strict.policy, minSurvivors: 2 } }; // the run's, as Python's clients in the test
  const rest = { demands, journal: inMemory(), train: askForTraining, observer, uniform, answerStepMs: 0 };
  participant = new Participant({ clientId, key, roster, helpers: found.helpers.map(fromHex), ...rest });
  say({});
}

async function handle(line: Line): Promise<void> {
  if (line.new) await begin(line.new);
  else if (line.trained) onTrained(line.trained);
  else if (line.answer !== undefined) {
    const answered = await participant.answer(fromBase64(line.answer));
    say({ answered: answered && toBase64(answered), goodbye: participant.goodbye });
  } else if (line.takePart) {
    const { signal } = new AbortController();
    say({ goodbye: await takePart(line.takePart, participant, { signal, key, clientId: begun.clientId, admitted: () => undefined }) });
  }
}

for await (const text of createInterface({ input: process.stdin })) {
  void handle(JSON.parse(text) as Line).catch((error: unknown) => {
    if (!(error instanceof FedkeysError)) throw error;
    say({ error: error.name, text: error.message });
  });
}
