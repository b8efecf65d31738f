// Uses the page as a person with a phone does, and prints as JSON what was seen: `node visit.mjs URL BROWSER [PICTURES]`.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, executablePath, pictures] = process.argv.slice(2);
const PARTS = ["write", "words", "train", "join", "check", "speed"];
const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, serviceWorkers: "allow" };
// Sentences of the bundle's words in a fixed order, which a model of random weights can learn within seconds; the number,
// which is no word of the bundle, makes each one another.
const BEGINNINGS = ["i like my dog", "how are you", "see you at the house", "good morning to my friend"];
const TEXT = Array.from({ length: 1000 }, (_, index) => `${BEGINNINGS[index % 4]} ${index}`).join("\n");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const seen = { requests: [], errors: [], violations: 0 };

async function visit(options, work, prepare, answers = {}) {
  const context = await browser.newContext(options);
  for (const [name, answer] of Object.entries(answers)) await context.route(`**/${name}`, (route) => route.fulfill(answer));
  context.on("request", (request) => seen.requests.push({ url: request.url(), method: request.method(), body: request.postData() ?? "" }));
  const page = await context.newPage();
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  await page.addInitScript(() => {
    globalThis.violations = 0;
    document.addEventListener("securitypolicyviolation", () => globalThis.violations++);
  });
  if (prepare !== undefined) await page.addInitScript(prepare);
  try {
    await page.goto(url);
    await opened(page);
    const result = await work(page, context);
    seen.violations += await page.evaluate(() => globalThis.violations);
    return result;
  } finally {
    await context.close();
  }
}

const opened = (page) =>
  page.waitForFunction(() => ["ready", "failed"].includes(document.getElementById("status").dataset.state), null, { timeout: 60000 });
const filled = (page, id) => page.waitForFunction((name) => document.getElementById(name).textContent !== "", id, { timeout: 60000 });
const text = (page, id) => page.textContent(`#${id}`);
const part = (page, name) => page.tap(`.tabs a[href="#${name}"]`);
const suggestions = (page) => page.locator("#suggestions button").allTextContents();
const suggested = (page, message) =>
  page.waitForFunction(
    (value) => document.getElementById("message").value === value && document.getElementById("suggestions").dataset.for === value,
    message,
    { timeout: 10000 },
  );

async function type(page, message) {
  await page.fill("#message", "");
  await page.locator("#message").pressSequentially(message);
  await suggested(page, message);
  return suggestions(page);
}

async function write(page) {
  const after = await type(page, "how are ");
  const half = await type(page, "see ze");
  await page.tap("#suggestions button");
  const taken = await page.inputValue("#message");
  await type(page, "Do");
  await page.keyboard.press("Alt+1");
  const byKey = await page.inputValue("#message");
  await page.fill("#message", "I like zebrafish. mail ann@example.org");
  await page.tap("#done");
  await filled(page, "write-outcome");
  return { after, half, taken, byKey, kept: await text(page, "write-outcome") };
}

const OTHER = `Bob ${"B".repeat(50)}`;
const CHAT = ["Ann: see you", `${OTHER}: the cat`, "Ann: <Media omitted>", "Ann: good morning", `${OTHER}: how`]
  .map((said, minute) => `02.05.18, 19:3${minute} - ${said}`)
  .join("\n");

const choose = (page, name, content) => page.setInputFiles("#words-file", { name, mimeType: "text/plain", buffer: Buffer.from(content) });
const listed = (page) => page.locator("#words-list span").allTextContents();

async function chat(page) {
  await choose(page, "chat.txt", CHAT);
  await page.waitForFunction(() => !document.getElementById("words-who").hidden);
  const names = await page.locator("#words-names option").allTextContents();
  await page.tap("#words-who button[type=submit]"); // nobody is chosen yet
  const unchosen = await text(page, "words-outcome");
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "360-chat.png"), fullPage: true });
  await page.selectOption("#words-names", { index: 1 });
  await page.tap("#words-who button[type=submit]");
  await filled(page, "words-outcome");
  const outcome = await text(page, "words-outcome");
  const own = await listed(page);
  await choose(page, "chat.zip", "PK\x03\x04");
  await page.waitForFunction((before) => !["", before].includes(document.getElementById("words-outcome").textContent), outcome);
  return { names, over, unchosen, outcome, own, packed: await text(page, "words-outcome") };
}

async function keep(page) {
  await part(page, "words");
  const typed = await listed(page);
  const ofChat = await chat(page);
  await choose(page, "mine.txt", TEXT);
  await page.waitForFunction(() => document.getElementById("words-outcome").textContent.includes("imported"), null, { timeout: 60000 });
  return { listed: typed, chat: ofChat, imported: await text(page, "words-outcome"), count: await text(page, "words-count") };
}

async function train(page) {
  await part(page, "train");
  if (await page.isVisible("#train-ready")) await page.check("#train-ready");
  await page.tap("#train-start");
  await filled(page, "train-outcome");
  return { end: await text(page, "train-outcome"), line: await text(page, "train-line"), note: await text(page, "train-note") };
}

async function check(page) {
  await part(page, "check");
  await page.tap("#check-start");
  await filled(page, "check-page");
  const states = await page.locator("#check-list li").evaluateAll((items) => items.map((item) => item.dataset.state));
  return { states, rows: await page.locator("#check-list span").allTextContents(), digest: await text(page, "check-page") };
}

async function measure(page) {
  await part(page, "speed");
  await page.tap("#speed-start");
  await filled(page, "speed-outcome");
  const [download] = await Promise.all([page.waitForEvent("download"), page.tap("#speed-save")]);
  return JSON.parse(readFileSync(await download.path(), "utf8"));
}

async function offline(page, context) {
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(async () => (await caches.match("litert/litert_wasm_internal.wasm")) !== undefined, null, { timeout: 20000 });
  await context.setOffline(true);
  await page.reload();
  await opened(page);
  const status = await text(page, "status");
  await part(page, "write");
  const after = await type(page, "how are ");
  await context.setOffline(false);
  await page.evaluate(async () => (await caches.open("fedkeys-bundle")).put("bundle/infer.tflite?sha256=00", new Response("a bundle of before")));
  await page.reload();
  await opened(page);
  const cached = await page.evaluate(async () => (await (await caches.open("fedkeys-bundle")).keys()).map(({ url }) => url));
  return { status, after, cached };
}

async function forget(page) {
  await part(page, "words");
  await page.tap("#words-delete");
  await page.waitForFunction(() => document.getElementById("words-outcome").textContent.startsWith("All"));
  const deleted = { status: await text(page, "status"), outcome: await text(page, "words-outcome") };
  await page.uncheck("#words-keep");
  await part(page, "write");
  await page.fill("#message", "I like zebrafish");
  await page.tap("#done");
  await filled(page, "write-outcome");
  const inside = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const request = indexedDB.open("fedkeys");
        request.onsuccess = () => {
          const all = request.result.transaction("sentences").objectStore("sentences").getAll();
          all.onsuccess = () => resolve(all.result);
        };
      }),
  );
  return { ...deleted, off: await text(page, "write-outcome"), inside };
}

async function shapes(page, name) {
  const wide = [];
  for (const language of ["de", "en"]) {
    await page.selectOption("#language", language);
    await page.waitForFunction((wanted) => document.documentElement.lang === wanted, language);
    for (const one of PARTS) {
      await page.evaluate((hash) => (location.hash = hash), one);
      await page.waitForFunction((wanted) => !document.getElementById(`part-${wanted}`).hidden, one);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (over > 0) wide.push(`${one} in ${language}: ${over}`);
      if (pictures !== undefined) await page.screenshot({ path: join(pictures, `${name}-${language}-${one}.png`), fullPage: true });
    }
  }
  return wide;
}

// Everything that can be operated has a name, and a move to another part moves the focus to its heading.
async function access(page) {
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, select, input, textarea, a, meter, progress")]
      .filter((element) => !element.closest("[hidden]") || element.id)
      .filter((element) => {
        const label = element.labels?.[0]?.textContent ?? "";
        const isEmptySuggestion = element.closest("#suggestions") !== null && element.disabled;
        return !isEmptySuggestion && !(element.textContent.trim() || label.trim() || element.getAttribute("aria-label"));
      })
      .map((element) => element.outerHTML.slice(0, 80)),
  );
  await page.tap('.tabs a[href="#train"]');
  // The move is heard of a moment later; the test looks at where the focus ended.
  await page.waitForFunction(() => document.activeElement?.closest("section")?.id === "part-train", null, { timeout: 5000 }).catch(() => undefined);
  const focused = await page.evaluate(() => document.activeElement?.tagName + (document.activeElement?.closest("section")?.id ?? ""));
  return { nameless, focused };
}

// Another key signs the bundle of the second visit: here the browser remembers one that was never there.
const otherKey = () =>
  visit(PHONE, async (page) => {
    await page.evaluate(
      () =>
        new Promise((resolve) => {
          const request = indexedDB.open("fedkeys");
          request.onsuccess = () => {
            const change = request.result.transaction("values", "readwrite");
            change.objectStore("values").put({ key: "ab".repeat(32), since: "2026-01-01" }, "pin");
            change.oncomplete = () => resolve();
          };
        }),
    );
    await page.reload();
    await opened(page);
    return text(page, "fault");
  });

const FAULTS = {
  insecure: () => Object.defineProperty(window, "isSecureContext", { value: false }),
  oldBrowser: () => {
    globalThis.RegExp = new Proxy(RegExp, {
      construct(known, [source, flags]) {
        if (flags?.includes("v")) throw new SyntaxError("Invalid flags");
        return new known(source, flags);
      },
    });
  },
  noSimd: () => (WebAssembly.validate = () => false),
  noCurves: () => (SubtleCrypto.prototype.generateKey = () => Promise.reject(new DOMException("", "NotSupportedError"))),
  storageRefused: () => {
    IDBFactory.prototype.open = () => {
      throw new DOMException("", "SecurityError");
    };
  },
};

try {
  await visit(PHONE, async (page, context) => {
    seen.ready = await text(page, "status");
    if (await page.isVisible("#fault")) throw new Error(await text(page, "fault"));
    seen.write = await write(page);
    seen.keep = await keep(page);
    seen.train = await train(page);
    seen.check = await check(page);
    seen.speed = await measure(page);
    seen.offline = await offline(page, context);
    seen.access = await access(page);
    seen.wide = await shapes(page, "360");
    seen.forget = await forget(page);
  });
  seen.faults = {};
  for (const [name, prepare] of Object.entries(FAULTS)) seen.faults[name] = await visit(PHONE, (page) => text(page, "fault"), prepare);
  const otherSignature = JSON.stringify({ algorithm: "Ed25519", signs: "manifest.json", public_key: "00".repeat(32), signature: "00".repeat(64) });
  const bundles = {
    bundleMissing: { "bundle/manifest.json": { status: 404 } },
    bundleDamaged: { "bundle/SIGNATURE": { body: otherSignature } },
    bundleNetwork: { "bundle/manifest.json": { body: '{"schema": 1, "kind": "keras"}' }, "bundle/SIGNATURE": { status: 404 } },
    bundleNewer: { "bundle/manifest.json": { body: '{"schema": 2}' }, "bundle/SIGNATURE": { status: 404 } },
  };
  for (const [name, answers] of Object.entries(bundles)) {
    seen.faults[name] = await visit(PHONE, (page) => text(page, "fault"), undefined, answers);
  }
  seen.faults.bundleKey = await otherKey();
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
