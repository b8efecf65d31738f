/**
 * The bundle that the server offers: fetched, checked against the key pinned at first sight and against its digests,
 * and kept in the browser's cache under those digests, so that the page works offline.
 */

import { Fault } from "./faults.ts";
import { fromHex, hex, isSigned, sha256 } from "./primitives.ts";
import { get, put } from "./store.ts";
import { VERSION as TOKENISER } from "./tokeniser.ts";

const SCHEMA = 1;
const CACHE = "fedkeys-bundle";

/** What training reads, beside what suggestions do. */
export const TRAINING_FILES = ["train.tflite", "golden/batches.bin", "golden/expected.txt", "golden/weights_after.bin"];

export interface Plan {
  epochs: number;
  batch_size: number;
  learning_rate: number;
  clip_norm: number;
  max_sentences: number;
}

export interface Manifest {
  schema: number;
  kind?: string; // of what is not a next-word model's
  fedkeys_version: string;
  tokeniser?: number;
  segmenter?: string;
  run: {
    round_num: number;
    weights_sha256: string;
    config_sha256: string;
    corpus_name: string;
    corpus_sha256: string;
    vocabulary_sha256: string;
  };
  model: {
    vocabulary_size: number;
    embedding_size: number;
    num_cells: number;
    kind?: string;
    max_words: number;
    weights: { name: string; shape: number[] }[];
  };
  words?: { source: string; from_text?: number | null; fewest_people?: number | null; from_public: number } | null;
  phase: { plan: Plan }[];
  files: Record<string, { bytes: number; sha256: string }>;
}

/** Who signed: nobody, or a key, and since when this browser knows it. */
export interface Signer {
  key: string | null;
  since: string | null;
}

export interface Bundle {
  manifest: Manifest;
  digest: string; // sha256 of manifest.json
  signer: Signer;
  isOffline: boolean; // the server was not reached: this is the bundle as it was kept
  plan: Plan;
  read(name: string): Promise<Uint8Array>;
}

/** Returns the SHA-256 of a file, in hex. */
export const digestOf = async (content: Uint8Array): Promise<string> => hex(await sha256(content));

/** Returns so many bytes that SIGNATURE holds in hex. */
function ofHex(text: unknown, length: number): Uint8Array<ArrayBuffer> {
  if (typeof text !== "string" || !new RegExp(`^[0-9a-f]{${2 * length}}$`).test(text)) {
    throw new Fault("bundleDamaged", "SIGNATURE");
  }
  return fromHex(text);
}

/** Works on what is kept for when there is no network. Where no space is left, or none is given, the page is online only. */
async function inCache<T>(work: (cache: Cache) => Promise<T>): Promise<T | undefined> {
  try {
    return await work(await caches.open(CACHE));
  } catch {
    return undefined;
  }
}

const recall = (url: URL): Promise<Response | undefined> => inCache((cache) => cache.match(url));
const remember = (url: URL, content: Uint8Array<ArrayBuffer>): Promise<void> => inCache((cache) => cache.put(url, new Response(content)));
const forget = (url: URL): Promise<unknown> => inCache((cache) => cache.delete(url));

/** Fetches a file that may change: from the network, or as it was kept last where there is none. Null: there is none. */
async function newest(base: URL, name: string): Promise<{ content: Uint8Array<ArrayBuffer>; isOffline: boolean } | null> {
  const url = new URL(name, base);
  let answer: Response | undefined;
  try {
    answer = await fetch(url, { cache: "no-store", credentials: "omit" });
  } catch {
    answer = undefined;
  }
  const isOffline = answer === undefined || answer.status >= 500;
  if (isOffline) answer = await recall(url);
  return answer?.ok ? { content: new Uint8Array(await answer.arrayBuffer()), isOffline } : null;
}

/** Returns the hex key that signs a manifest, null if there is no signature. */
export async function signerOf(manifest: Uint8Array<ArrayBuffer>, signature: Uint8Array | null): Promise<string | null> {
  if (signature === null) return null;
  let file: Record<string, unknown>;
  try {
    file = JSON.parse(new TextDecoder().decode(signature)) as Record<string, unknown>;
  } catch {
    throw new Fault("bundleDamaged", "SIGNATURE");
  }
  if (file["algorithm"] !== "Ed25519" || file["signs"] !== "manifest.json") {
    throw new Fault("bundleDamaged", "SIGNATURE");
  }
  const raw = ofHex(file["public_key"], 32);
  if (!(await isSigned(ofHex(file["signature"], 64), raw, manifest))) throw new Fault("bundleDamaged", "SIGNATURE");
  return hex(raw);
}

/** Remembers the key of the first bundle, and refuses another one, or none, from then on. */
async function pinned(key: string | null): Promise<Signer> {
  const pin = await get("pin");
  if (pin === undefined) {
    if (key === null) return { key, since: null };
    const since = new Date().toISOString().slice(0, 10);
    await put("pin", { key, since });
    return { key, since };
  }
  if (key === null) throw new Fault("bundleUnsigned", pin.key.slice(0, 16));
  if (key !== pin.key) throw new Fault("bundleKey", key.slice(0, 16));
  return { key, since: pin.since };
}

function parseManifest(raw: Uint8Array): Manifest {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(new TextDecoder().decode(raw)) as Manifest;
  } catch {
    throw new Fault("bundleDamaged", "manifest.json");
  }
  if (manifest.schema !== SCHEMA) throw new Fault("bundleNewer", String(manifest.schema));
  if (manifest.kind !== undefined) throw new Fault("bundleNetwork", String(manifest.kind));
  if (manifest.tokeniser !== TOKENISER) throw new Fault("bundleTokeniser", String(manifest.tokeniser ?? 1));
  if (manifest.segmenter !== undefined) throw new Fault("bundleTokeniser", String(manifest.segmenter));
  if (manifest.model?.kind !== undefined) throw new Fault("bundleNetwork", String(manifest.model.kind));
  if (!manifest.model || !manifest.files || !manifest.phase?.[0]?.plan) {
    throw new Fault("bundleDamaged", "manifest.json");
  }
  return manifest;
}

/** Returns under which address the cache holds a file of a digest. */
function keptAt(base: URL, name: string, digest: string): URL {
  const url = new URL(name, base);
  url.searchParams.set("sha256", digest);
  return url;
}

/** Deletes the kept files of other bundles: else each new one would stay for good. */
async function forgetOthers(cache: Cache, base: URL, { files }: Manifest): Promise<void> {
  const ours = new Set(Object.entries(files).map(([name, { sha256 }]) => keptAt(base, name, sha256).href));
  for (const { url } of await cache.keys()) {
    if (new URL(url).searchParams.has("sha256") && !ours.has(url)) await cache.delete(url);
  }
}

/** Opens the bundle below `base` (a URL that ends in a slash). Throws Fault if it can't be used. */
export async function openBundle(base: URL): Promise<Bundle> {
  const found = await newest(base, "manifest.json");
  if (found === null) throw new Fault("bundleMissing");
  const { content: raw, isOffline } = found;
  const signature = (await newest(base, "SIGNATURE"))?.content ?? null;
  const signer = await pinned(await signerOf(raw, signature));
  const manifest = parseManifest(raw);
  await remember(new URL("manifest.json", base), raw);
  if (signature === null) await forget(new URL("SIGNATURE", base));
  else await remember(new URL("SIGNATURE", base), signature);
  await inCache((cache) => forgetOthers(cache, base, manifest));

  const read = async (name: string): Promise<Uint8Array> => {
    const entry = manifest.files[name];
    if (entry === undefined) throw new Fault("bundleDamaged", name);
    const url = keptAt(base, name, entry.sha256);
    const known = await recall(url);
    const answer = known ?? (await fetch(new URL(name, base), { credentials: "omit" }).catch(() => undefined));
    if (!answer?.ok) throw new Fault("bundleMissing", name);
    const content = new Uint8Array(await answer.arrayBuffer());
    if (content.length !== entry.bytes || (await digestOf(content)) !== entry.sha256) {
      await forget(url);
      throw new Fault("bundleDamaged", name);
    }
    if (known === undefined) await remember(url, content);
    return content;
  };
  const plan = (manifest.phase[0] as { plan: Plan }).plan;
  return { manifest, digest: await digestOf(raw), signer, isOffline, plan, read };
}
