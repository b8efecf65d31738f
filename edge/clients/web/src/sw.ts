/**
 * The service worker: after the first visit the page works offline. It answers for the page's own files only; the
 * worker keeps the bundle by itself, under its digests.
 */

declare const BUILD: string; // put in by build.mjs: a digest of the files, so that a new page has a new service worker

interface Installing extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface Fetching extends Event {
  request: Request;
  respondWith(answer: Promise<Response>): void;
}
interface Told extends Installing {
  data: { keep?: unknown };
}
interface Scope {
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
  registration: { scope: string };
  addEventListener(name: "install" | "activate", listener: (event: Installing) => void): void;
  addEventListener(name: "fetch", listener: (event: Fetching) => void): void;
  addEventListener(name: "message", listener: (event: Told) => void): void;
}

const scope = self as unknown as Scope;
const PREFIX = "fedkeys-page-";
const CACHE = `${PREFIX}${BUILD}`;
const FILES = "files.json";

async function install(): Promise<void> {
  const cache = await caches.open(CACHE);
  const listed = (await (await fetch(FILES, { cache: "no-store" })).json()) as Record<string, string>;
  // Of LiteRT's two builds, only the one that this browser runs: the page names it by a message.
  const names = Object.keys(listed).filter((name) => !name.startsWith("litert/") && name !== "sw.js");
  await cache.addAll(["./", FILES, ...names].map((name) => new Request(name, { cache: "no-cache" })));
  await scope.skipWaiting();
}

async function activate(): Promise<void> {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await scope.clients.claim();
}

async function keep(names: readonly string[]): Promise<void> {
  const cache = await caches.open(CACHE);
  for (const name of names) if ((await cache.match(name)) === undefined) await cache.add(name);
}

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}

/** Whether a request is for a file of the page, not of the bundle or of the rounds. */
function isOfPage(request: Request): boolean {
  const path = request.url.startsWith(scope.registration.scope) ? request.url.slice(scope.registration.scope.length) : null;
  return request.method === "GET" && path !== null && !/^(?:bundle\/|rounds|status|enrol|roster\.json)/.test(path);
}

scope.addEventListener("install", (event) => event.waitUntil(install()));
scope.addEventListener("activate", (event) => event.waitUntil(activate()));
scope.addEventListener("message", (event) => {
  const { keep: names } = event.data;
  if (Array.isArray(names)) event.waitUntil(keep(names.filter((name) => typeof name === "string")));
});
scope.addEventListener("fetch", (event) => {
  if (isOfPage(event.request)) event.respondWith(answer(event.request));
});
