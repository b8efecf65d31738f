// Times the page in Chromium as benchmarks/web.py asks: `node speed.mjs URL BROWSER`. Prints a line of JSON once the first
// visit is over and nothing more is fetched, and then one with the times.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [url, executablePath] = process.argv.slice(2);
const VISITS = 7; // on a warm cache
const TYPED = "see you at the house of my friend tomorrow in the morning";

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext({ serviceWorkers: "allow" });
const asked = [];
context.on("request", (request) => asked.push(new URL(request.url()).pathname));
await context.addInitScript(() => {
  new MutationObserver(() => {
    if (document.getElementById("status")?.dataset.state === "ready") globalThis.readyAt ??= performance.now();
  }).observe(document, { subtree: true, childList: true, attributes: true });
});

async function opened() {
  const page = await context.newPage();
  await page.goto(url);
  await page.waitForFunction(() => ["ready", "failed"].includes(document.getElementById("status").dataset.state), null, { timeout: 60000 });
  if (await page.isVisible("#fault")) throw new Error(await page.textContent("#fault"));
  return page;
}

async function closedAfter(page, work) {
  try {
    return await work(page);
  } finally {
    await page.close();
  }
}

async function typed(page) {
  const times = [];
  for (let end = 1; end <= TYPED.length; end++) {
    await page.locator("#message").press(TYPED[end - 1] === " " ? "Space" : TYPED[end - 1]);
    const wanted = TYPED.slice(0, end);
    await page.waitForFunction((text) => document.getElementById("suggestions").dataset.for === text, wanted, { timeout: 10000 });
    times.push(Number(/[\d.]+/.exec(await page.textContent("#write-speed"))[0]));
  }
  return times;
}

async function measured(page) {
  await page.click('.tabs a[href="#speed"]');
  await page.click("#speed-start");
  await page.waitForFunction(() => document.getElementById("speed-outcome").textContent !== "", null, { timeout: 120000 });
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#speed-save")]);
  return JSON.parse(readFileSync(await download.path(), "utf8"));
}

try {
  await closedAfter(await opened(), async (page) => {
    await page.evaluate(() => navigator.serviceWorker.ready);
    for (let before = -1; before !== asked.length; ) {
      before = asked.length;
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
    console.log(JSON.stringify({ asked: [...new Set(asked)], browser: browser.version() }));
  });
  const ready = [];
  for (let visit = 0; visit < VISITS; visit++) ready.push(await closedAfter(await opened(), (page) => page.evaluate(() => globalThis.readyAt)));
  const strokes = await closedAfter(await opened(), typed);
  const { train_step_ms, key_stroke_ms } = await closedAfter(await opened(), measured);
  console.log(JSON.stringify({ ready, strokes, train_step_ms, key_stroke_ms }));
} finally {
  await browser.close();
}
