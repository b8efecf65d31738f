// Takes part in a server's rounds as a person with a phone does, and prints as JSON what was seen and what left:
// `node join.mjs URL BROWSER CODE PICTURES [OPERATOR]`. Meanwhile the operator's page is open at the address OPERATOR.
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, executablePath, code, pictures, operatorUrl] = process.argv.slice(2);
const TEXT = Array.from({ length: 60 }, (_, index) => `see you at the house my zebrafish ${index}`).join("\n");
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext(PHONE);
const seen = { errors: [], sent: [], requests: [] };
context.on("request", (request) => seen.requests.push({ url: request.url(), method: request.method(), body: request.postData() ?? "" }));
const page = await context.newPage();
page.on("pageerror", (error) => seen.errors.push(String(error)));
page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => seen.sent.push(Buffer.from(payload).toString("base64"))));

const text = (id) => page.textContent(`#${id}`);
const shoot = async (of, name) => of.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
const picture = async (name) => shoot(page, name);
const until = (test, argument, timeout = 60000) => page.waitForFunction(test, argument, { timeout });

// What the operator sees: in the lobby, in a round, and once all are over.
const desk = await (await browser.newContext({ viewport: { width: 1400, height: 900 } })).newPage();
seen.operator = { errors: [], requests: [] };
desk.on("pageerror", (error) => seen.operator.errors.push(String(error)));
desk.on("console", (message) => message.type() === "error" && seen.operator.errors.push(message.text()));
desk.on("request", (request) => seen.operator.requests.push(request.url()));
const operator = (id) => desk.textContent(`#${id}`);
if (operatorUrl) {
  await desk.goto(operatorUrl);
  await desk.waitForFunction(() => /lobby is open/.test(document.getElementById("now").textContent));
  seen.operator.lobby = await operator("now");
}

await page.goto(url);
await until(() => ["ready", "failed"].includes(document.getElementById("status").dataset.state));
await page.tap('.tabs a[href="#words"]');
await page.setInputFiles("#words-file", { name: "mine.txt", mimeType: "text/plain", buffer: Buffer.from(TEXT) });
await until(() => document.getElementById("words-outcome").textContent !== "");
await page.tap('.tabs a[href="#join"]');
await page.fill("#join-code", code);
await page.fill("#join-name", "myphone");
await picture("enrol");
await page.tap("#join-enrol");
await until(() => !document.getElementById("join-ready").hidden);
if (await page.isVisible("#join-allow")) await page.check("#join-allow");
await page.tap("#join-start");
await until(() => document.getElementById("join-stop").hidden === false);
await until(() => document.querySelectorAll("#join-left-rows tr").length >= 6, null, 300000);
await picture("round");
if (operatorUrl) {
  await desk.waitForFunction(() => document.querySelectorAll("#rounds tr").length >= 1);
  seen.operator.clients = await desk.locator("#clients tr").allTextContents();
  seen.operator.upload = await operator("upload");
  await shoot(desk, "operator");
  for (const [width, colorScheme] of [[390, "light"], [390, "dark"], [360, "dark"], [1400, "dark"]]) {
    await desk.setViewportSize({ width, height: 900 });
    await desk.emulateMedia({ colorScheme });
    const overflow = await desk.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (overflow > 0) seen.operator.errors.push(`${width} px: ${overflow} px too wide`);
    await shoot(desk, `operator-${width}-${colorScheme}`);
  }
}
await until(() => document.getElementById("join-stop").hidden, null, 150000); // the server said goodbye
await picture("end");
if (operatorUrl) {
  await desk.waitForFunction(() => document.getElementById("link").dataset.state === "ended", null, { timeout: 60000 });
  seen.operator.end = await operator("now");
  seen.operator.rounds = await desk.locator("#rounds tr").allTextContents();
  seen.operator.pictures = await desk.locator("#figures svg[aria-label]").evaluateAll((all) => all.map((own) => own.getAttribute("aria-label")));
  await shoot(desk, "operator-end");
}
seen.outcome = await text("join-outcome");
seen.left = await page.locator("#join-left-rows tr").allTextContents();
seen.numbers = await text("join-numbers");
await browser.close();
console.log(JSON.stringify(seen));
