// Runs build/in_browser.js in a browser and prints what came of it as JSON: `node run.mjs BROWSER`.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const browser = await chromium.launch({ executablePath: process.argv[2], args: ["--no-sandbox"] });
const page = await browser.newPage();
// Nothing is served: the browser gets both files from here, for the origin of a secure context.
await page.route("http://localhost/", (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html><meta charset=utf-8><script src=all.js></script>" }));
const script = readFileSync(new URL("../../build/in_browser.js", import.meta.url), "utf8");
await page.route("http://localhost/all.js", (route) => route.fulfill({ contentType: "text/javascript", body: script }));
await page.goto("http://localhost/");
console.log(JSON.stringify(await page.evaluate(() => globalThis.results())));
await browser.close();
