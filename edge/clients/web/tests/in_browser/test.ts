// Stands for node:test in a browser: runs the tests one after the other and gathers what came of them.

type Context = { test: (name: string, work: Work) => Promise<void> };
type Work = (context: Context) => unknown;
interface Results {
  passed: number;
  failed: string[];
}

const results: Results = { passed: 0, failed: [] };
let turn: Promise<void> = Promise.resolve();

async function run(name: string, work: Work): Promise<void> {
  try {
    await work({ test: run });
    results.passed += 1;
  } catch (error) {
    results.failed.push(`${name}: ${error instanceof Error ? error.stack : String(error)}`);
  }
}

export function test(name: string, work: Work): void {
  turn = turn.then(() => run(name, work));
}

/** All results, once every test has run. */
Object.assign(globalThis, { results: () => turn.then(() => results) });
