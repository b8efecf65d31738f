// Runs the page's worker, as `make web` built it, in Node: what a browser loads, without a browser.
//
//     node litert_js.mjs DIST                        prints LiteRT.js's version
//     node litert_js.mjs DIST FOLDER LEARNING_RATE   trains on FOLDER/batches from FOLDER/weights on, writes
//                                                    FOLDER/weights_after, and prints a line "loss NATS" for each step
//
// See edge/clients/litert_js.py for what else the folder holds.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { runInThisContext } from "node:vm";

const [dist, folder, learningRate] = process.argv.slice(2);

/** Loads the worker, and returns a function that asks it for one operation at a time. */
function worker() {
  const script = pathToFileURL(join(dist, "worker.js"));
  const run = (url) => runInThisContext(readFileSync(fileURLToPath(url), "utf8"), { filename: url });
  // What the worker and LiteRT's loader expect of a classic worker, and of Node.
  Object.assign(globalThis, {
    self: globalThis,
    location: script,
    importScripts: run,
    require: createRequire(script),
    __dirname: join(dist, "litert"),
    __filename: join(dist, "litert", "loader.js"),
  });
  run(script.href);
  return (name, ...args) =>
    new Promise((resolve, reject) => {
      self.postMessage = ({ ok, error }) => (error ? reject(new Error(`${error.code} ${error.detail}`)) : resolve(ok));
      self.onmessage({ data: { id: 1, name, args } });
    });
}

const read = (name) => new Uint8Array(readFileSync(join(folder, name)));
const ask = worker();
if (folder === undefined) {
  console.log(await ask("litert"));
} else {
  const { model } = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  const { weights, losses } = await ask("steps", {
    train: read("train.tflite"),
    model,
    weights: new Float32Array(read("weights").buffer),
    batches: read("batches"),
    learningRate: Number(learningRate),
  });
  writeFileSync(join(folder, "weights_after"), weights);
  for (const loss of losses) console.log(`loss ${loss}`);
}
