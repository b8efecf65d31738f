/**
 * What this browser keeps, in IndexedDB: sentences, and named values (settings, keys, the trained weights).
 *
 * Page and worker both open it. Nothing here sends anything.
 */

import { Fault } from "./faults.ts";
import type { Operator, Seen } from "./roster.ts";

const NAME = "fedkeys";
const VERSION = 1;
const SENTENCES = "sentences";
const VALUES = "values";

const DEFAULT_CAP = 1000;
export const CAPS: readonly number[] = [200, 1000, 5000];

/** A kept sentence: its words joined by spaces, under a number that grows. */
export interface Kept {
  id: number;
  words: string;
}

/** What the person chose. keep: false keeps nothing that is typed from now on. */
export interface Settings {
  keep: boolean;
  cap: number;
}

/** The weights that this device trained for itself. */
interface Personal {
  manifest: string; // sha256 of the bundle's manifest that they began from
  weights: Float32Array;
  sentences: number;
}

/** Named values and their types. */
export interface Values {
  settings: Settings;
  personal: Personal;
  pin: { key: string; since: string }; // hex of the public key that signed the first bundle
  golden: { manifest: string; ok: boolean };
  // The operator is who signs the roster; there is none where a server of before enrolled this browser.
  identity: { clientId: string; keys: CryptoKeyPair; publicKey: string; isEnrolled: boolean; operator?: Operator };
  rosters: Record<string, Seen>; // the newest roster that was seen of each operator, by fingerprint
  journal: Record<string, number>; // the last round that was spent, by the run's seed
}

/** Returns the fault of a browser that does not keep what it is given. */
function refusal(why: unknown): Fault {
  const isFull = why instanceof DOMException && why.name === "QuotaExceededError";
  return new Fault(isFull ? "storageFull" : "storageRefused", String(why));
}

let opened: Promise<IDBDatabase> | null = null;

function open(): Promise<IDBDatabase> {
  opened ??= new Promise<IDBDatabase>((resolve, reject) => {
    const refuse = (why: unknown) => {
      opened = null;
      reject(refusal(why));
    };
    try {
      const request = indexedDB.open(NAME, VERSION);
      request.onupgradeneeded = () => {
        request.result.createObjectStore(SENTENCES, { autoIncrement: true });
        request.result.createObjectStore(VALUES);
      };
      request.onsuccess = () => {
        request.result.onversionchange = () => request.result.close();
        request.result.onclose = () => {
          opened = null; // the person deleted the site's data: what follows is kept anew
        };
        resolve(request.result);
      };
      request.onerror = () => refuse(request.error);
    } catch (error) {
      refuse(error);
    }
  });
  return opened;
}

/** Runs one transaction; it resolves when what was written is on the disk. */
async function transact<T>(
  store: string,
  mode: IDBTransactionMode,
  work: (store: IDBObjectStore) => IDBRequest<T> | null,
): Promise<T | undefined> {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(store, mode, { durability: "strict" });
    const request = work(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = () => reject(refusal(transaction.error));
  });
}

export async function get<K extends keyof Values>(name: K): Promise<Values[K] | undefined> {
  return transact(VALUES, "readonly", (store) => store.get(name) as IDBRequest<Values[K] | undefined>);
}

export async function put<K extends keyof Values>(name: K, value: Values[K]): Promise<void> {
  await transact(VALUES, "readwrite", (store) => store.put(value, name));
}

export async function remove(name: keyof Values): Promise<void> {
  await transact(VALUES, "readwrite", (store) => store.delete(name));
}

/** Changes a value in one transaction, so that two tabs do not overwrite each other's change. */
export async function change<K extends keyof Values>(
  name: K,
  next: (before: Values[K] | undefined) => Values[K],
): Promise<void> {
  await transact(VALUES, "readwrite", (store) => {
    const request = store.get(name) as IDBRequest<Values[K] | undefined>;
    request.onsuccess = () => {
      try {
        store.put(next(request.result), name);
      } catch (error) {
        store.transaction.abort();
        throw error;
      }
    };
    return null;
  });
}

export async function settings(): Promise<Settings> {
  return (await get("settings")) ?? { keep: true, cap: DEFAULT_CAP };
}

/** Keeps sentences, unless the person keeps nothing; the oldest beyond the cap go. Returns how many were kept. */
export async function keep(sentences: readonly string[]): Promise<number> {
  const { keep: isKept, cap } = await settings();
  if (!isKept || sentences.length === 0) return 0;
  const newest = sentences.slice(-cap);
  await transact(SENTENCES, "readwrite", (store) => {
    for (const words of newest) store.add(words);
    cutTo(store, cap);
    return null;
  });
  return newest.length;
}

/** Deletes the oldest sentences beyond a cap. */
export async function enforce(cap: number): Promise<void> {
  await transact(SENTENCES, "readwrite", (store) => {
    cutTo(store, cap);
    return null;
  });
}

function cutTo(store: IDBObjectStore, cap: number): void {
  const keys = store.getAllKeys();
  keys.onsuccess = () => {
    const surplus = keys.result.length - cap;
    const last = surplus > 0 ? keys.result[surplus - 1] : undefined;
    if (last !== undefined) store.delete(IDBKeyRange.upperBound(last));
  };
}

/** Returns how many sentences are kept. */
export async function keptCount(): Promise<number> {
  return (await transact(SENTENCES, "readonly", (store) => store.count())) ?? 0;
}

/** Returns all kept sentences, the oldest first. */
export async function kept(): Promise<Kept[]> {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(SENTENCES, "readonly");
    const store = transaction.objectStore(SENTENCES);
    const keys = store.getAllKeys() as IDBRequest<number[]>;
    const values = store.getAll() as IDBRequest<string[]>;
    transaction.oncomplete = () =>
      resolve(keys.result.map((id, index) => ({ id, words: values.result[index] ?? "" })));
    transaction.onabort = () => reject(refusal(transaction.error));
  });
}

export async function forget(id: number): Promise<void> {
  await transact(SENTENCES, "readwrite", (store) => store.delete(id));
}

/** Deletes every sentence and the weights that were trained on them. */
export async function forgetAll(): Promise<void> {
  await transact(SENTENCES, "readwrite", (store) => store.clear());
  await remove("personal");
}
