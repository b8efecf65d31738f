// What a client of secure aggregation refuses from a server, as orchestrator/secagg/refusals.py: every check between a
// message and its answer. Each function returns what the client goes on with, or throws the named error.

import {
  AliveAndDead,
  RosterRefused,
  SharesRefused,
  SplitView,
  SurvivorsRefused,
  TooFewPeers,
  WeakParameters,
} from "./errors.ts";
import { graphParameters, isComplete, type GraphParameters, type Policy } from "./graph.ts";
import { hex, type Bytes } from "./primitives.ts";
import { isSigned } from "./secagg_keys.ts";
import { fromBitmap, signedKeys, type Delivery, type Invitation, type Roster, type Survivors, type UnmaskRequest } from "./secagg_messages.ts";

type Indices = ReadonlySet<number>;

/** Returns the degree and threshold, which the client computes itself. */
export function checkedParameters(invitation: Invitation, policy: Policy): GraphParameters {
  const { numClients, degree, threshold, minSurvivors, recipient } = invitation;
  if (numClients > policy.maxClients) {
    throw new WeakParameters(`a cohort of ${numClients}, at most ${policy.maxClients} expected`);
  }
  const own = graphParameters(numClients, policy);
  if (degree !== own.degree || threshold !== own.threshold) {
    throw new WeakParameters(
      `the server offers degree ${degree} and threshold ${threshold} for ${numClients} clients, ` +
        `this client's policy asks for ${own.degree} and ${own.threshold}`,
    );
  }
  if (minSurvivors < policy.minSurvivors) {
    throw new WeakParameters(
      `the server would sum ${minSurvivors} survivors, this client's policy asks for ${policy.minSurvivors}`,
    );
  }
  if (recipient >= numClients) throw new WeakParameters(`no client ${recipient} in a cohort of ${numClients}`);
  return own;
}

/** Checks that the neighbours are different, enrolled people who signed their keys for this session. */
export async function checkRoster(
  roster: Roster,
  ownKeys: readonly Bytes[],
  enrolled: ReadonlySet<string>,
  parameters: GraphParameters,
): Promise<void> {
  const peers = roster.neighbours;
  const indices = new Set([roster.recipient, ...peers.map((peer) => peer.index)]);
  if (indices.size !== 1 + peers.length || [...indices].some((index) => index >= parameters.numClients)) {
    throw new RosterRefused("a client appears twice in the roster, or is none of the cohort");
  }
  if (peers.length > parameters.degree) {
    throw new RosterRefused(`${peers.length} neighbours, at most ${parameters.degree} expected`);
  }
  const keys = [...ownKeys, ...peers.flatMap((peer) => [peer.identity, peer.channelKey, peer.maskKey])];
  if (new Set(keys.map(hex)).size !== keys.length) {
    throw new RosterRefused("a key appears twice in the roster: someone stands there under two names");
  }
  for (const peer of peers) {
    if (!enrolled.has(hex(peer.identity))) throw new RosterRefused(`client ${peer.index} is not enrolled`);
    if (!(await isSigned(peer.signature, peer.identity, "advertise", roster.session, peer.index, signedKeys(peer)))) {
      throw new RosterRefused(`the keys of client ${peer.index} are not signed by it for this session`);
    }
  }
  requireThreshold(peers.length, "neighbours advertised", parameters);
}

/** Returns the neighbours whose shares arrived. */
export function checkedSenders(delivery: Delivery, neighbours: Indices): Set<number> {
  const senders = new Set(delivery.shares.map((share) => share.sender));
  if (senders.size !== delivery.shares.length || !isSubset(senders, neighbours)) {
    throw new SharesRefused("shares from someone who is not a neighbour, or twice from one");
  }
  return senders;
}

/** Who a client knows of when the survivors come: its neighbours, those who shared, and those whose shares opened. */
interface Known {
  readonly neighbours: Indices;
  readonly peers: Indices;
  readonly opened: Indices;
}

/**
 * Returns the peers that survive. Only neighbours whose shares this client could decrypt count towards the minimum: the
 * others may have received another roster.
 */
export function checkedSurvivors(
  survivors: Survivors,
  known: Known,
  parameters: GraphParameters,
  minSurvivors: number,
): Set<number> {
  const alive = fromBitmap(survivors.alive, parameters.numClients);
  const everyone = Array.from({ length: parameters.numClients }, (_, index) => index);
  const neighbours = isComplete(parameters)
    ? everyone.filter((index) => index !== survivors.recipient)
    : [...known.neighbours];
  if (!alive.has(survivors.recipient)) {
    throw new SurvivorsRefused("the survivors leave out this client, whose vector was sent");
  }
  if (neighbours.some((index) => alive.has(index) && !known.peers.has(index))) {
    throw new SurvivorsRefused("the survivors hold a neighbour whose shares were never delivered");
  }
  const unopened = neighbours.filter((index) => alive.has(index) && !known.opened.has(index)).length;
  const numSurvivors = alive.size - unopened;
  if (numSurvivors < minSurvivors) throw new TooFewPeers(`${numSurvivors} survivors, ${minSurvivors} needed`);
  const alivePeers = new Set([...alive].filter((index) => known.peers.has(index)));
  requireThreshold(alivePeers.size, "neighbours survive", parameters);
  return alivePeers;
}

/** Who is asked for shares: whom this client takes for alive and dead, and what it and its neighbours signed. */
interface Signed {
  readonly session: Bytes;
  readonly bitmap: Bytes;
  readonly identities: ReadonlyMap<number, Bytes>;
  readonly alive: Indices;
  readonly dead: Indices;
}

/** Checks that enough neighbours signed the same survivors, and that the server asks for the right secrets. */
export async function checkRequest(request: UnmaskRequest, signed: Signed, parameters: GraphParameters): Promise<void> {
  const senders = request.consents.map((consent) => consent.sender);
  if (repeats(senders) || !isSubset(senders, signed.alive)) {
    throw new SplitView("a consent of someone who is no surviving neighbour, or two of one");
  }
  for (const { sender, signature } of request.consents) {
    const identity = signed.identities.get(sender);
    const holds = identity && (await isSigned(signature, identity, "survivors", signed.session, sender, signed.bitmap));
    if (!holds) throw new SplitView(`client ${sender} did not sign the survivors that this client was told`);
  }
  requireThreshold(senders.length, "neighbours consent", parameters);
  if (repeats([...request.alive, ...request.dead])) {
    throw new AliveAndDead("a neighbour is named twice: only one of its secrets may be recovered");
  }
  if (!isSubset(request.alive, signed.alive) || !isSubset(request.dead, signed.dead)) {
    throw new AliveAndDead("a neighbour is named dead whose vector arrived, or alive whose did not");
  }
}

export function requireThreshold(count: number, what: string, parameters: GraphParameters): void {
  if (count < parameters.threshold) throw new TooFewPeers(`${count} ${what}, ${parameters.threshold} needed`);
}

const repeats = (indices: readonly number[]): boolean => new Set(indices).size !== indices.length;

const isSubset = (some: Iterable<number>, all: Indices): boolean => [...some].every((index) => all.has(index));
