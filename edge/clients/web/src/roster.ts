// Who may take part, as the operator signs it, as orchestrator/network/roster.py: what the signature covers, and which rosters
// a client refuses.

import {
  ForeignRoster,
  ForgedRoster,
  ForkedRoster,
  KeysError,
  NotOnRoster,
  OldRoster,
  UnsignedRoster,
} from "./errors.ts";
import { ascii, bigEndian32, concat, equal, fromHex, hasSmallOrder, hex, isSigned, isSound, sha256, type Bytes } from "./primitives.ts";

export const CLIENT_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;
const PREFIX = "fedkeys network 1 ";
const MOST_CLIENTS = 1 << 20;
export const MOST_HELPERS = 5; // of the split sum
const ASK = "ask the operator for the newest one";
const FIELDS = new Set(["schema", "clients", "roster_id", "number", "helpers", "signature"]);

/** Whose signature a roster must bear, kept from the enrolment on: the key and the name of the folder of keys, as hex. */
export interface Operator {
  readonly key: string;
  readonly rosterId: string;
}

/** The newest roster that a client has seen: its number, and the SHA-256 (hex) of what the operator signed. */
export interface Seen {
  readonly number: number;
  readonly digest: string;
}

/** One of before is not signed: all but `clients` is empty. */
export interface Roster {
  readonly clients: ReadonlyMap<string, Bytes>; // Ed25519, of 32 bytes
  readonly helpers: readonly Bytes[]; // X25519, of 32 bytes
  readonly rosterId: Bytes;
  readonly number: number;
  readonly signature: Bytes;
}

/** Returns the 32 hex digits that the address of an enrolment, and people, hold an operator's key against. */
export async function fingerprintOf({ key, rosterId }: Operator): Promise<string> {
  return hex(await sha256(ascii(`${PREFIX}operator\0`), fromHex(key), fromHex(rosterId))).slice(0, 32);
}

/** Returns the operator that two values name, as hex; null if they name none. */
export function operatorOf(key: unknown, rosterId: unknown): Operator | null {
  if (!isHex(key, 32) || !isHex(rosterId, 16) || hasSmallOrder(fromHex(key))) return null;
  return { key, rosterId };
}

/** Returns what the operator signs: every field of fixed length or after its length, the clients by their names. */
export function signedBytes({ clients, helpers, rosterId, number }: Roster): Bytes {
  const named = [...clients].sort(([one], [other]) => (one < other ? -1 : 1));
  return concat(
    ascii(`${PREFIX}roster\0`),
    rosterId,
    bigEndian32(number),
    Uint8Array.of(helpers.length),
    ...helpers,
    bigEndian32(clients.size),
    ...named.flatMap(([name, key]) => [Uint8Array.of(name.length), ascii(name), key]),
  );
}

/** Returns the roster in the text of a roster.json; whose signature it bears is not checked. Throws KeysError. */
export async function decodeRoster(text: string): Promise<Roster> {
  const found = fieldsOf(text);
  const { schema, clients, roster_id: rosterId = "", number = 0, helpers = [], signature = "" } = found;
  const isOfBefore = schema === 1;
  if (isOfBefore ? rosterId !== "" || number !== 0 || signature !== "" || !isList(helpers, 0) : schema !== 2) throw damaged();
  if (!isOfBefore && !(isHex(rosterId, 16) && isHex(signature, 64) && isCount(number))) throw damaged();
  if (!isObject(clients) || !isList(helpers, MOST_HELPERS)) throw damaged();
  const entries = Object.entries(clients);
  const keys = [...entries.map(([, key]) => key), ...helpers];
  if (!keys.every((key) => isHex(key, 32)) || entries.length > MOST_CLIENTS) throw damaged();
  if (!isOfBefore && !entries.every(([name]) => CLIENT_NAME.test(name))) throw damaged();
  if (new Set(entries.map(([, key]) => key)).size < entries.length || new Set(helpers).size < helpers.length) throw damaged();
  const roster: Roster = {
    clients: new Map(entries.map(([name, key]) => [name, fromHex(key as string)])),
    helpers: helpers.map((key) => fromHex(key as string)),
    rosterId: fromHex(rosterId as string),
    number: number as number,
    signature: fromHex(signature as string),
  };
  if ([...roster.clients.values()].some(hasSmallOrder)) throw damaged();
  for (const helper of roster.helpers) if (!(await isSound(helper))) throw damaged();
  return roster;
}

/** Passes a roster that the operator signed for this folder of keys; throws UnsignedRoster, ForeignRoster, ForgedRoster. */
export async function requireSigned(roster: Roster, operator: Operator): Promise<void> {
  if (roster.signature.length === 0) {
    throw new UnsignedRoster(`the roster is not signed, and this client knows who its operator is: ${ASK}`);
  }
  if (!equal(roster.rosterId, fromHex(operator.rosterId))) {
    throw new ForeignRoster(`the roster is of another run's keys than those that this client is enrolled with: ${ASK}`);
  }
  if (!(await isSigned(roster.signature, fromHex(operator.key), signedBytes(roster)))) {
    throw new ForgedRoster(`the roster was changed, or somebody else than the operator signed it: ${ASK}`);
  }
}

/** Returns what a client that has seen this roster keeps of it. */
export const seenOf = async (roster: Roster): Promise<Seen> => ({
  number: roster.number,
  digest: hex(await sha256(signedBytes(roster))),
});

/** Passes what is the newest roster that the client has seen, or newer; throws OldRoster, ForkedRoster. */
export function requireNewest(found: Seen, seen: Seen | undefined): void {
  if (seen === undefined || found.number > seen.number) return;
  if (found.number < seen.number) {
    throw new OldRoster(`the roster is number ${found.number}, this client has seen number ${seen.number}: ${ASK}`);
  }
  if (found.digest !== seen.digest) {
    throw new ForkedRoster(`the operator signed two rosters as number ${seen.number}: ask the operator for a new one`);
  }
}

/** Passes a roster with this client; throws NotOnRoster. */
export function requireListed(roster: Roster, clientId: string, key: Bytes): void {
  const listed = roster.clients.get(clientId);
  if (listed === undefined) throw new NotOnRoster(`the roster has no client ${clientId}: ask the operator to enrol it`);
  if (!equal(listed, key)) {
    throw new NotOnRoster(`the roster's key of client ${clientId} is not this client's: ask the operator to enrol it`);
  }
}

/** Where a client keeps the newest roster of each operator, by fingerprint; `see` returns once it is in durable storage. */
export interface SeenRosters {
  of(fingerprint: string): Promise<Seen | undefined>;
  see(fingerprint: string, found: Seen): Promise<void>;
}

/** Passes a roster of this operator with this client, and keeps that it was seen; throws UntrustedRosters. */
export async function admit(roster: Roster, operator: Operator, clientId: string, key: Bytes, seen: SeenRosters): Promise<void> {
  await requireSigned(roster, operator);
  const [found, fingerprint] = [await seenOf(roster), await fingerprintOf(operator)];
  requireNewest(found, await seen.of(fingerprint));
  await seen.see(fingerprint, found);
  requireListed(roster, clientId, key);
}

function fieldsOf(text: string): Record<string, unknown> {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    throw damaged();
  }
  if (!isObject(found) || !Object.keys(found).every((name) => FIELDS.has(name))) throw damaged();
  return found;
}

const damaged = (): KeysError => new KeysError("the roster is damaged, or of another version: ask the operator");

const isHex = (text: unknown, length: number): text is string =>
  typeof text === "string" && text.length === 2 * length && /^[0-9a-f]*$/.test(text);

const isCount = (value: unknown): boolean => Number.isInteger(value) && (value as number) > 0 && (value as number) < 2 ** 32;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isList = (value: unknown, most: number): value is unknown[] => Array.isArray(value) && value.length <= most;
