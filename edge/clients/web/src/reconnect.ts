/** Connects again when a connection is lost: a phone sleeps, changes networks, or its server is started again. */

import { ConnectionLost, DoorError } from "./errors.ts";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 60_000;

/** What keeping up a connection needs, beside the connection itself. */
export interface Reconnecting {
  readonly signal: AbortSignal; // the person leaves
  lost(): void; // told each time, before the wait
  isOver(): Promise<boolean>; // whether the server says that there is nothing to come back for
  readonly random?: () => number; // a test's
}

/**
 * Returns what a connection ends with. One that was lost is followed by another, after a wait that doubles up to a minute
 * and is drawn anew each time, so that the phones of a server that comes back do not all come at once.
 *
 * Throws what a connection throws, but ConnectionLost; DoorError if nothing is left to come back for.
 */
export async function untilOver<T>(connect: () => Promise<T>, options: Reconnecting): Promise<T> {
  let wait = FIRST_WAIT_MS;
  for (;;) {
    const began = performance.now();
    try {
      return await connect();
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
    }
    if (performance.now() - began > LONGEST_WAIT_MS) wait = FIRST_WAIT_MS;
    options.lost();
    await pause(wait * (0.5 + (options.random ?? Math.random)()), options.signal);
    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    if (await options.isOver()) throw new DoorError("the server has ended its rounds meanwhile");
  }
}

/** Waits; no longer than until the network is there again, or the person leaves. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = new AbortController();
    const end = (): void => {
      clearTimeout(timer);
      over.abort();
      resolve();
    };
    const timer = setTimeout(end, ms);
    globalThis.addEventListener?.("online", end, { signal: over.signal });
    signal.addEventListener("abort", end, { signal: over.signal });
    if (signal.aborted) end();
  });
}
