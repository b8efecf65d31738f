// The client's role in the split sum, as orchestrator/split/client.py: it masks its vector, and seals the mask's seed for each
// helper, in one message.

import { BelowThreshold, ForeignHelper, ForeignRound, RoundAnswered } from "./errors.ts";
import { seal } from "./hpke.ts";
import { SEED_BYTES, addMasks } from "./masks.ts";
import { equal, hex, sha256, sign, type Bytes, type Random } from "./primitives.ts";
import { UPLOAD, decodeTerms, helpersDigest, sealInfo, signedBytes, termsDigest, type RoundTerms } from "./split_messages.ts";

/** What a client was told of a round, apart from the terms, and holds them against. */
export interface Told {
  readonly run: Bytes; // 32 bytes, the name of the run that the client takes part in
  readonly version: number; // the round whose weights the client began with
  readonly agreed: Bytes; // 32 bytes, a digest of what all clients must have been told
  readonly numGroups: number; // how many sums a round has
}

/** Who masks, for whom, and on what it insists. */
export interface SplitOptions {
  readonly clientId: string;
  readonly key: CryptoKey; // Ed25519, private
  readonly helpers: readonly Bytes[]; // X25519 public keys, in their order, known beforehand
  readonly minContributions: number; // the fewest vectors in a sum that the client takes part in
  readonly answered: Set<string>; // the runs and rounds that this client has sent a vector for; it adds to them
  readonly random: Random;
}

/**
 * Returns the Upload that answers the terms: all that the client sends in the round.
 *
 * Throws MalformedMessage, ForeignRound, ForeignHelper, BelowThreshold, RoundAnswered; RangeError for another length.
 */
export async function maskForSplit(wire: Bytes, vector: Uint32Array, told: Told, options: SplitOptions): Promise<Bytes> {
  const { clientId, key, helpers, answered, random } = options;
  const terms = decodeTerms(wire);
  requireTold(terms, told);
  await check(terms, vector, options);
  answered.add(nameOf(terms));

  const seeds = helpers.map(() => random(SEED_BYTES));
  const masked = vector.slice();
  await addMasks(masked, seeds.map((seed) => ({ seed, sign: 1 as const })));
  const words = new Uint8Array(masked.buffer);
  const wordsDigest = await sha256(words);
  const stated = { terms: await termsDigest(terms), version: told.version, agreed: told.agreed, wordsDigest, clientId };
  const sealed: Bytes[] = [];
  for (const [place, helper] of helpers.entries()) {
    sealed.push(await seal(helper, sealInfo(stated, place), seeds[place]!, wordsDigest, random));
  }
  const signature = await sign(key, signedBytes(stated, await Promise.all(sealed.map((own) => sha256(own)))));
  return UPLOAD.encode({ terms: stated.terms, clientId, version: told.version, sealed, signature, words });
}

async function check(terms: RoundTerms, vector: Uint32Array, { helpers, minContributions, answered }: SplitOptions): Promise<void> {
  const where = `round ${terms.roundNum}`;
  if (!equal(terms.helpers, await helpersDigest(helpers))) {
    throw new ForeignHelper(`${where}: the terms name other helpers than the ${helpers.length} of this client`);
  }
  if (terms.minContributions < minContributions) {
    throw new BelowThreshold(
      `${where}: the terms allow a sum of ${terms.minContributions}, this client asks for at least ${minContributions}`,
    );
  }
  if (answered.has(nameOf(terms))) throw new RoundAnswered(`${where} came before: a client is summed once in a round`);
  if (vector.length !== terms.numSlots) {
    throw new RangeError(`vector must be uint32 [${terms.numSlots}], got uint32 [${vector.length}]`);
  }
}

/** Passes if the terms are of the round that the client was told of. */
function requireTold(terms: RoundTerms, told: Told): void {
  const where = `round ${terms.roundNum}`;
  if (!equal(terms.run, told.run) || terms.group >= told.numGroups) {
    throw new ForeignRound(`${where}: the terms name another run, or a group that it does not have`);
  }
  if (terms.maxStaleness > 0) {
    throw new ForeignRound(
      `${where}: the terms allow weights ${terms.maxStaleness} rounds old, this client 0: others could have been told ` +
        "something else",
    );
  }
  if (told.version !== terms.roundNum) {
    throw new ForeignRound(`${where}: the terms do not allow the weights of round ${told.version}`);
  }
}

const nameOf = ({ run, roundNum }: RoundTerms): string => `${hex(run)} ${roundNum}`;
