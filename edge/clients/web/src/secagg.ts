// A client's half of one session of secure aggregation, as orchestrator/secagg/client.py: it masks its vector and helps to
// unmask the sum, but never one client's vector. A refusal ends the session for this client: it forgets its secrets.

import { RosterRefused, SessionReplayed, UnexpectedMessage } from "./errors.ts";
import { isComplete, type GraphParameters, type Policy } from "./graph.ts";
import { addMasks, type Mask } from "./masks.ts";
import { UnsoundKey, concat, exchange, hex, random as secureRandom, x25519Pair } from "./primitives.ts";
import type { Bytes, KeyPair, Random } from "./primitives.ts";
import * as refusals from "./refusals.ts";
import * as keys from "./secagg_keys.ts";
import * as messages from "./secagg_messages.ts";
import { SECRET_BYTES, SHARE_BYTES, split } from "./shamir.ts";

export const MAX_BYTES = 1 << 28; // of a message from the server: a roster of a million neighbours

/** The message that the client waits for. */
const STATES = {
  invitation: "an invitation",
  roster: "the roster",
  delivery: "the delivery of shares",
  survivors: "the survivors",
  unmaskRequest: "the unmask request",
  done: "nothing: it has unmasked",
  closed: "nothing: it has refused",
} as const;
type State = keyof typeof STATES;

export interface Identity {
  readonly key: CryptoKey;
  readonly publicKey: Bytes;
}

interface Neighbour {
  readonly identity: Bytes;
  readonly channel: Bytes; // the Diffie-Hellman value that seals both ways derive from
  readonly maskSeed: Bytes;
}

/** What is known once the client was invited. */
interface Invited {
  readonly invitation: messages.Invitation;
  readonly parameters: GraphParameters;
  readonly session: Bytes;
  readonly index: number;
}

/** What must not outlive the stage that it is for. */
interface Secrets {
  readonly channel: KeyPair;
  readonly mask: KeyPair;
  secret?: Bytes;
  neighbours?: Map<number, Neighbour>;
}

/** One client in one session. */
export class SecAggClient {
  state: State = "invitation";
  private invited?: Invited;
  private credentials?: messages.Credentials;
  private bound?: Bytes; // what keys, seals and signatures are bound to from the shares on
  private secrets?: Secrets;
  private held?: Map<number, readonly [Bytes, Bytes]>; // {neighbour: its self-mask share, its key share}
  private identities = new Map<number, Bytes>();
  private peers = new Set<number>();
  private alive = new Set<number>();
  private bitmap?: Bytes;

  /**
   * @param identity the client's long-term key, enrolled beforehand.
   * @param enrolled the identities that may take part, as hex of 32 bytes.
   * @param policy what this client insists on, whatever the server asks for.
   * @param seenSessions the sessions, as hex, that this device has joined; the client adds to them.
   * @param agreed what all clients of the session must have heard: those that heard other things share no masks.
   * @param random draws every secret.
   */
  constructor(
    private readonly identity: Identity,
    private readonly enrolled: ReadonlySet<string>,
    private readonly policy: Policy,
    private readonly seenSessions: Set<string>,
    private readonly agreed: Bytes,
    private readonly random: Random = secureRandom,
  ) {}

  /** Answers an Invitation with an Advertisement (r0). */
  advertise(wire: Bytes): Promise<Bytes> {
    return this.step("invitation", "roster", async () => {
      const invitation = messages.INVITATION.decode(wire, MAX_BYTES);
      const session = await messages.sessionOf(invitation);
      const name = hex(session);
      if (this.seenSessions.has(name)) throw new SessionReplayed(`session ${name.slice(0, 8)} was used before`);
      this.seenSessions.add(name);
      const parameters = refusals.checkedParameters(invitation, this.policy);
      const index = invitation.recipient;
      this.invited = { invitation, parameters, session, index };
      const channel = await x25519Pair(this.random(SECRET_BYTES));
      const mask = await x25519Pair(this.random(SECRET_BYTES));
      this.secrets = { channel, mask };
      const identity = this.identity.publicKey;
      const body = concat(identity, channel.publicKey, mask.publicKey);
      const signature = await keys.sign(this.identity.key, "advertise", session, index, body);
      this.credentials = { index, identity, channelKey: channel.publicKey, maskKey: mask.publicKey, signature };
      return messages.ADVERTISEMENT.encode({ session, credentials: this.credentials });
    });
  }

  /** Answers a Roster with SealedShares: shares of the self-mask secret and of the mask key (r1). */
  share(wire: Bytes): Promise<Bytes> {
    return this.step("roster", "delivery", async () => {
      const roster = this.own("Roster", messages.ROSTER.decode(wire, MAX_BYTES));
      const { parameters, session, index } = known(this.invited);
      const own = known(this.credentials);
      const secrets = known(this.secrets);
      await refusals.checkRoster(roster, [own.identity, own.channelKey, own.maskKey], this.enrolled, parameters);
      const everyone = isComplete(parameters) ? [own, ...roster.neighbours] : [];
      const bound = await messages.boundSession(session, this.agreed, everyone);
      this.bound = bound;
      secrets.secret = this.random(SECRET_BYTES);
      secrets.neighbours = await this.agreeWith(roster.neighbours, secrets, bound);
      const shares = await this.sealedShares(secrets.secret, secrets.mask, secrets.neighbours, bound);
      const commitment = await keys.commitment(secrets.secret, bound, index);
      return messages.SEALED_SHARES.encode({ session, sender: index, commitment, shares });
    });
  }

  /**
   * Answers a Delivery with a MaskedVector (r2). The client treats a share that it can't decrypt as missing: it can't help
   * to recover that neighbour, but still masks with it, so that a neighbour that lies harms itself only.
   */
  mask(wire: Bytes, vector: Uint32Array): Promise<Bytes> {
    return this.step("delivery", "survivors", async () => {
      const { invitation, parameters, session, index } = known(this.invited);
      if (vector.length !== invitation.numSlots) {
        throw new RangeError(`vector must be uint32 [${invitation.numSlots}], got uint32 [${vector.length}]`);
      }
      const delivery = this.own("Delivery", messages.DELIVERY.decode(wire, MAX_BYTES));
      const secrets = known(this.secrets);
      const neighbours = known(secrets.neighbours);
      this.peers = refusals.checkedSenders(delivery, new Set(neighbours.keys()));
      this.held = await this.opened(delivery, neighbours);
      refusals.requireThreshold(this.held.size, "neighbours' shares open", parameters);
      const masked = Uint32Array.from(vector);
      await addMasks(masked, await this.masks(known(secrets.secret), neighbours));
      this.identities = new Map([...neighbours].map(([peer, { identity }]) => [peer, identity]));
      delete this.secrets;
      return messages.MASKED_VECTOR.encode({ session, sender: index, words: new Uint8Array(masked.buffer) });
    });
  }

  /** Answers Survivors with a Consent (r3). */
  consent(wire: Bytes): Promise<Bytes> {
    return this.step("survivors", "unmaskRequest", async () => {
      const survivors = this.own("Survivors", messages.SURVIVORS.decode(wire, MAX_BYTES));
      const { invitation, parameters, session, index } = known(this.invited);
      const opened = new Set(known(this.held).keys());
      const who = { neighbours: new Set(this.identities.keys()), peers: this.peers, opened };
      this.alive = refusals.checkedSurvivors(survivors, who, parameters, invitation.minSurvivors);
      this.bitmap = survivors.alive.slice();
      const signature = await keys.sign(this.identity.key, "survivors", known(this.bound), index, this.bitmap);
      return messages.CONSENT.encode({ session, sender: index, signature });
    });
  }

  /** Answers an UnmaskRequest with an Unmasking (r4), once a session. */
  unmask(wire: Bytes): Promise<Bytes> {
    return this.step("unmaskRequest", "done", async () => {
      const request = this.own("UnmaskRequest", messages.UNMASK_REQUEST.decode(wire, MAX_BYTES));
      const { parameters, session, index } = known(this.invited);
      const dead = new Set([...this.peers].filter((peer) => !this.alive.has(peer)));
      const signed = { session: known(this.bound), bitmap: known(this.bitmap), identities: this.identities, alive: this.alive, dead };
      await refusals.checkRequest(request, signed, parameters);
      const held = known(this.held);
      const sharesOf = (owners: number[], which: 0 | 1) =>
        owners.flatMap((owner) => {
          const pair = held.get(owner);
          return pair ? [{ owner, share: pair[which] }] : [];
        });
      const answer = { session, sender: index, seedShares: sharesOf(request.alive, 0), keyShares: sharesOf(request.dead, 1) };
      this.forget();
      return messages.UNMASKING.encode(answer);
    });
  }

  /** Runs a step in the expected state only; a failure inside closes the session for this client. */
  private async step(expected: State, then: State, body: () => Promise<Bytes>): Promise<Bytes> {
    if (this.state !== expected) {
      throw new UnexpectedMessage(`the client waits for ${STATES[this.state]}, not for ${STATES[expected]}`);
    }
    this.state = "closed";
    try {
      const answer = await body();
      this.state = then;
      return answer;
    } catch (error) {
      this.forget();
      throw error;
    }
  }

  private forget(): void {
    delete this.secrets;
    delete this.held;
  }

  private own<M extends { session: Bytes; recipient: number }>(name: string, message: M): M {
    const { session, index } = known(this.invited);
    if (hex(message.session) !== hex(session) || message.recipient !== index) {
      throw new UnexpectedMessage(`a ${name} of another session or for another client`);
    }
    return message;
  }

  private async agreeWith(peers: messages.Credentials[], own: Secrets, bound: Bytes): Promise<Map<number, Neighbour>> {
    const { index } = known(this.invited);
    const neighbours = new Map<number, Neighbour>();
    try {
      for (const peer of peers) {
        const shared = await exchange(own.mask.privateKey, peer.maskKey);
        const channel = await exchange(own.channel.privateKey, peer.channelKey);
        const maskSeed = await keys.pairMaskSeed(shared, bound, index, peer.index);
        neighbours.set(peer.index, { identity: peer.identity, channel, maskSeed });
      }
    } catch (error) {
      if (!(error instanceof UnsoundKey)) throw error;
      throw new RosterRefused(`a neighbour has ${error.message}`);
    }
    return neighbours;
  }

  /** Returns both secrets, shared among the neighbours: a holder's point is its index + 1. */
  private async sealedShares(
    secret: Bytes,
    mask: KeyPair,
    neighbours: Map<number, Neighbour>,
    bound: Bytes,
  ): Promise<messages.SealedShare[]> {
    const { parameters, index } = known(this.invited);
    const points = [...neighbours.keys()].map((holder) => holder + 1);
    const seedShares = split(secret, parameters.threshold, points, this.random);
    const keyShares = split(mask.raw, parameters.threshold, points, this.random);
    const dealt: messages.SealedShare[] = [];
    for (const [holder, { channel }] of neighbours) {
      const pair = [seedShares[dealt.length]!, keyShares[dealt.length]!];
      const nonce = this.random(keys.NONCE_BYTES);
      const sealed = await keys.seal(concat(...pair), channel, bound, index, holder, nonce);
      const tags = await Promise.all(pair.map((share) => keys.shareTag(share, bound, index, holder)));
      dealt.push({ recipient: holder, sealed, tags: concat(...tags) });
    }
    return dealt;
  }

  private async opened(delivery: messages.Delivery, neighbours: Map<number, Neighbour>): Promise<Map<number, readonly [Bytes, Bytes]>> {
    const { index } = known(this.invited);
    const held = new Map<number, readonly [Bytes, Bytes]>();
    for (const { sender, sealed } of delivery.shares) {
      const { channel } = known(neighbours.get(sender));
      const plain = await keys.unseal(sealed, channel, known(this.bound), sender, index);
      if (plain !== null) held.set(sender, [plain.slice(0, SHARE_BYTES), plain.slice(SHARE_BYTES)]);
    }
    return held;
  }

  /** Returns the self mask, and one with each peer: added by the lower index, subtracted by the higher. */
  private async masks(secret: Bytes, neighbours: Map<number, Neighbour>): Promise<Mask[]> {
    const { index } = known(this.invited);
    const own: Mask = { seed: await keys.selfMaskSeed(secret, known(this.bound), index), sign: 1 };
    const shared = [...this.peers].map((peer): Mask => ({ seed: known(neighbours.get(peer)).maskSeed, sign: index < peer ? 1 : -1 }));
    return [own, ...shared];
  }
}

/** The value that an earlier step has set: the state says so. */
function known<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("a step came before the one that it needs");
  return value;
}
