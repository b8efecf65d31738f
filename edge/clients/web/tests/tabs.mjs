// Holds phones' tabs open for a test: `node tabs.mjs BROWSER`. A line of JSON is a command, {id, tab, do, with}, and is
// answered by {id, ok} or {id, error}; commands of several tabs run side by side.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
const PATIENCE_MS = 60000;
const LOADED = 'document.getElementById("status").dataset.state !== "loading"';
const browser = await chromium.launch({ executablePath: process.argv[2], args: ["--no-sandbox"] });
const tabs = new Map();
let processes; // of the browser, while it sleeps

/** A phone: a browser's profile, its page, and what was seen of it. */
async function phone(name) {
  if (!tabs.has(name)) {
    const context = await browser.newContext(PHONE);
    const tab = { context, page: null, errors: [], sent: [], received: [] };
    context.on("request", (request) => tab.sent.push(Buffer.from(`${request.url()} ${request.postData() ?? ""}`)));
    tabs.set(name, tab);
  }
  return tabs.get(name);
}

async function until(page, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await page.evaluate(condition).catch((error) => {
      if (!String(error).includes("context was destroyed")) throw error; // the page is on its way to another address
    });
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`in vain: ${condition}; the page says: ${await page.innerText("main")}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const commands = {
  async open(tab, { url, before, devtools }) {
    const page = await tab.context.newPage();
    tab.page = page;
    if (devtools) await commands.devtools(tab, devtools);
    page.on("pageerror", (error) => tab.errors.push(String(error)));
    page.on("websocket", (socket) => {
      socket.on("framesent", ({ payload }) => tab.sent.push(Buffer.from(payload)));
      socket.on("framereceived", ({ payload }) => tab.received.push(Buffer.from(payload)));
    });
    if (before) await page.addInitScript(before);
    await page.goto(url);
    await until(page, LOADED);
  },
  // What this sets holds as long as the page is there.
  devtools: async ({ context, page }, how) => (await context.newCDPSession(page)).send(...how),
  close: (tab) => tab.page.close(),
  async reload({ page }) {
    await page.reload();
    await until(page, LOADED);
  },
  async forget({ context }, _, name) {
    tabs.delete(name);
    await context.close();
  },
  tap: ({ page }, selector) => page.tap(selector, { timeout: PATIENCE_MS }),
  fill: ({ page }, { selector, value }) => page.fill(selector, value),
  upload: ({ page }, { selector, text }) =>
    page.setInputFiles(selector, { name: "mine.txt", mimeType: "text/plain", buffer: Buffer.from(text) }),
  evaluate: ({ page }, script) => page.evaluate(script),
  until: ({ page }, condition) => until(page, condition),
  offline: ({ context }, isOffline) => context.setOffline(isOffline),
  // The whole browser sleeps, as a phone does in a pocket: none of its processes runs.
  async sleep(_, isAsleep) {
    processes ??= (await (await browser.newBrowserCDPSession()).send("SystemInfo.getProcessInfo")).processInfo.map(({ id }) => id);
    for (const id of processes) process.kill(id, isAsleep ? "SIGSTOP" : "SIGCONT");
  },
  seen: ({ errors, sent, received }) => ({
    errors,
    sent: sent.map((frame) => frame.toString("base64")),
    received: received.map((frame) => frame.toString("base64")),
  }),
};

async function answer({ id, tab, do: what, with: how }) {
  try {
    return { id, ok: (await commands[what](await phone(tab), how, tab)) ?? null };
  } catch (error) {
    return { id, error: String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  void answer(JSON.parse(line)).then((said) => process.stdout.write(`${JSON.stringify(said)}\n`));
}
await browser.close();
