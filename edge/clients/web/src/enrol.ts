/** Enrolment: a key that the browser makes and no script can read, and a code from the operator that puts it on the roster. */

import { Fault } from "./faults.ts";
import { ascii, concat, hex, sign } from "./primitives.ts";
import { CLIENT_NAME, fingerprintOf, operatorOf, type Operator } from "./roster.ts";
import { get, put, type Values } from "./store.ts";

export type Identity = Values["identity"];

/** What an operator hands over: a code, and who signs the roster, as a fingerprint; the latter may be missing. */
export interface Offer {
  readonly code: string;
  readonly fingerprint: string;
}

/** Returns the offer in what stands after "#code=" in the operator's address, or in what a person typed. */
export function offerOf(text: string): Offer {
  const [code = "", fingerprint = ""] = text.trim().split("&operator=");
  return { code: code.toUpperCase(), fingerprint: fingerprint.toLowerCase() };
}

/** What the server says of its rounds. */
export interface ServerStatus {
  phase: "lobby" | "rounds" | "done";
  enrolled: number;
  wanted: number;
  round: number | null;
  aggregator?: string | null; // the sum of the rounds; a server of before does not say it
}

/** Returns what the server says; null if it can't be reached or runs no rounds. */
export async function serverStatus(): Promise<ServerStatus | null> {
  try {
    const answer = await fetch("status", { cache: "no-store", credentials: "omit" });
    return answer.ok ? ((await answer.json()) as ServerStatus) : null;
  } catch {
    return null;
  }
}

/** Returns the key that this browser kept, or a new one. It is kept before it is used, so a lost answer loses nothing. */
async function ownKeys(clientId: string): Promise<Identity> {
  const known = await get("identity");
  const keys = known?.keys ?? ((await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"])) as CryptoKeyPair);
  const publicKey = hex(new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey)));
  const identity = { clientId, keys, publicKey, isEnrolled: false };
  await put("identity", identity);
  return identity;
}

/**
 * Returns who signs the roster, by the answer to an enrolment; undefined if that is a server of before. Where the offer has a
 * fingerprint, the server can't name another operator: throws Fault.
 */
export async function checkedOperator(said: { operator?: unknown; roster_id?: unknown }, fingerprint: string): Promise<Operator | undefined> {
  const operator = operatorOf(said.operator, said.roster_id);
  const isNamed = operator !== null || said.operator !== undefined;
  if (operator === null && (isNamed || fingerprint !== "")) throw new Fault("enrolOperator");
  if (operator !== null && fingerprint !== "" && (await fingerprintOf(operator)) !== fingerprint) throw new Fault("enrolOperator");
  return operator ?? undefined;
}

/** Enrols this browser under a name. Throws Fault, which holds the server's sentence. */
export async function enrol({ code, fingerprint }: Offer, clientId: string): Promise<Identity> {
  if (!CLIENT_NAME.test(clientId)) throw new Fault("enrolName");
  const identity = await ownKeys(clientId);
  const claim = concat(ascii("fedkeys web 1 enrol\0"), ascii(code), Uint8Array.of(0), ascii(clientId));
  const signature = await sign(identity.keys.privateKey, claim);
  const request = { code, client_id: clientId, public_key: identity.publicKey, signature: hex(signature) };
  let answer: Response;
  let said: { error?: string; operator?: unknown; roster_id?: unknown };
  try {
    const headers = { "Content-Type": "application/json" };
    answer = await fetch("enrol", { method: "POST", headers, body: JSON.stringify(request), credentials: "omit" });
    said = (await answer.json()) as typeof said;
  } catch {
    throw new Fault("enrolUnreached");
  }
  if (!answer.ok) throw new Fault("enrolRefused", said.error ?? String(answer.status));
  const operator = await checkedOperator(said, fingerprint);
  const enrolled = { ...identity, isEnrolled: true, ...(operator && { operator }) };
  await put("identity", enrolled);
  await navigator.storage?.persist?.(); // else the browser may delete the key when space is short
  return enrolled;
}
