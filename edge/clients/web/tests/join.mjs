// Takes part in a server's rounds as a person with a phone does, and prints as JSON what was seen and what left:
// `node join.mjs URL BROWSER CODE [PICTURES]`.
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, executablePath, code, pictures] = process.argv.slice(2);
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
const picture = async (name) => pictures && (await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true }));
const until = (test, argument, timeout = 60000) => page.waitForFunction(test, argument, { timeout });

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
await until(() => document.getElementById("join-stop").hidden, null, 150000); // the server said goodbye
await picture("end");
seen.outcome = await text("join-outcome");
seen.left = await page.locator("#join-left-rows tr").allTextContents();
seen.numbers = await text("join-numbers");
await browser.close();
console.log(JSON.stringify(seen));
