// Holds what a client makes of its text back until a time that does not depend on the text, as orchestrator/network/pace.py:
// how long training takes tells how much was typed. One step should hold every training that is shorter.

export const DEFAULT_STEP_MS = 1000;

/** Does some work, and returns a whole number of steps after it began; at least one. A step of 0 holds nothing back. */
export async function held<T>(stepMs: number, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  try {
    return await work();
  } finally {
    if (stepMs > 0) {
      const steps = Math.max(1, Math.ceil((performance.now() - started) / stepMs));
      const left = started + steps * stepMs - performance.now();
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, left)));
    }
  }
}
