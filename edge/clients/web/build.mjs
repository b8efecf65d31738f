// Builds the page into dist/, or with --tests its tests into build/, which `node --test` runs.
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { build } from "esbuild";

const ROOT = dirname(fileURLToPath(import.meta.url));
const DIST = join(ROOT, "dist");
const LITERT = join(ROOT, "node_modules", "@litertjs", "core", "wasm");
// With relaxed SIMD and without it. The page asks for neither threads nor JSPI.
const LITERT_FILES = ["litert_wasm_internal", "litert_wasm_compat_internal"].flatMap((name) => [`${name}.js`, `${name}.wasm`]);
const COMPRESSED = /\.(wasm|js|css|html|json|webmanifest|svg)$/;
const SMALL_BYTES = 1 << 10; // not worth a second file

function filesUnder(folder, prefix = "") {
  return readdirSync(folder, { withFileTypes: true })
    .sort((one, other) => (one.name < other.name ? -1 : 1))
    .flatMap((entry) =>
      entry.isDirectory() ? filesUnder(join(folder, entry.name), `${prefix}${entry.name}/`) : [`${prefix}${entry.name}`],
    );
}

// A classic script: LiteRT's loader calls importScripts, which a module worker lacks.
const script = (name, define = {}) =>
  build({
    entryPoints: [join(ROOT, "src", `${name}.ts`)],
    bundle: true,
    format: "iife",
    target: "es2022",
    minify: true,
    outdir: DIST,
    charset: "utf8",
    define,
  });

const sha256 = (content) => createHash("sha256").update(content).digest("hex");

// {name: SHA-256} of what is in dist/, in the order of names.
const digestsOfDist = () => Object.fromEntries(filesUnder(DIST).map((name) => [name, sha256(readFileSync(join(DIST, name)))]));

// One digest of many: what the page shows of itself.
const digestOf = (digests) => sha256(Object.entries(digests).map(([name, digest]) => `${digest}  ${name}\n`).join(""));

async function buildPage() {
  rmSync(DIST, { recursive: true, force: true });
  mkdirSync(join(DIST, "litert"), { recursive: true });
  cpSync(join(ROOT, "static"), DIST, { recursive: true });
  for (const name of LITERT_FILES) cpSync(join(LITERT, name), join(DIST, "litert", name));
  await script("app");
  await script("worker");
  // The service worker holds a digest of the other files, so that browsers see a new one with each new page.
  await script("sw", { BUILD: JSON.stringify(digestOf(digestsOfDist()).slice(0, 16)) });
  const digests = digestsOfDist();
  for (const name of Object.keys(digests)) {
    const content = readFileSync(join(DIST, name));
    if (COMPRESSED.test(name) && content.length > SMALL_BYTES) {
      writeFileSync(join(DIST, `${name}.br`), brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }));
    }
  }
  writeFileSync(join(DIST, "files.json"), `${JSON.stringify(digests, null, 1)}\n`);
  console.log(`dist: ${Object.keys(digests).length} files, the page's digest is ${digestOf(digests)}`);
}

async function buildTests() {
  rmSync(join(ROOT, "build"), { recursive: true, force: true });
  const names = readdirSync(join(ROOT, "tests")).filter((name) => name.endsWith(".test.ts"));
  const tests = names.map((name) => ({ in: join(ROOT, "tests", name), out: join("tests", name.slice(0, -".ts".length)) }));
  await build({
    entryPoints: [...tests, ...["peer", "cost"].map((name) => ({ in: join(ROOT, "tests", `${name}.ts`), out: name }))],
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    outdir: join(ROOT, "build"),
    outExtension: { ".js": ".mjs" },
    sourcemap: "inline",
  });
  const inBrowser = join(ROOT, "tests", "in_browser");
  await build({
    entryPoints: [{ in: join(inBrowser, "all.ts"), out: "in_browser" }],
    bundle: true,
    format: "iife",
    target: "es2022",
    outdir: join(ROOT, "build"),
    charset: "utf8",
    alias: { "node:test": join(inBrowser, "test.ts"), "node:assert/strict": join(inBrowser, "assert.ts") },
  });
  // The page's worker around a model whose training a test can compute.
  await build({
    entryPoints: [{ in: join(ROOT, "src", "worker.ts"), out: "fixed_worker" }],
    bundle: true,
    format: "iife",
    target: "es2022",
    outdir: join(ROOT, "build"),
    charset: "utf8",
    alias: { "@litertjs/core": join(ROOT, "tests", "fixed_litert.ts") },
  });
}

await (process.argv.includes("--tests") ? buildTests() : buildPage());
