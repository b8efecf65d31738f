import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { ConnectionLost, DoorError } from "../src/errors.ts";
import { untilOver } from "../src/reconnect.ts";
import { refused } from "./vectors.ts";

afterEach(() => mock.timers.reset());

/** Keeps up connections whose ends are the caller's; the waits are drawn in the middle. */
function kept(isOver = async () => false) {
  mock.timers.enable({ apis: ["setTimeout"] });
  const aborting = new AbortController();
  const ends: { lose(): void; finish(reason: string): void; fail(why: Error): void }[] = [];
  const seen = { lost: 0 };
  const connect = () =>
    new Promise<string>((finish, fail) => {
      ends.push({ lose: () => fail(new ConnectionLost("gone")), finish, fail });
    });
  const end = untilOver(connect, { signal: aborting.signal, lost: () => void seen.lost++, isOver, random: () => 0.5 });
  end.catch(() => undefined); // looked at later
  return { end, ends, seen, aborting };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("a lost connection is followed by another, after waits that double up to a minute", async () => {
  const { end, ends, seen } = kept();
  for (const wait of [1, 2, 4, 8, 16, 32, 60, 60]) {
    const before = ends.length;
    ends.at(-1)!.lose();
    await turn();
    mock.timers.tick(1000 * wait - 1);
    await turn();
    assert.equal(ends.length, before, `not before ${wait} s`);
    mock.timers.tick(1);
    await turn();
    assert.equal(ends.length, before + 1);
  }
  assert.equal(seen.lost, 8);
  ends.at(-1)!.finish("all rounds are done");
  assert.equal(await end, "all rounds are done");
});

test("after a connection that held for more than a minute, the waits begin anew", async () => {
  const now = mock.method(performance, "now", () => 0);
  const { ends } = kept();
  for (const wait of [1000, 2000]) {
    ends.at(-1)!.lose();
    await turn();
    mock.timers.tick(wait);
    await turn();
  }
  now.mock.mockImplementation(() => 60_001);
  ends.at(-1)!.lose();
  await turn();
  mock.timers.tick(1000);
  await turn();
  assert.equal(ends.length, 4);
  now.mock.restore();
});

test("what is no loss ends it at once", async () => {
  const { end, ends, seen } = kept();
  ends[0]!.fail(new DoorError("another connection took this one's place: close the other tab"));
  await refused(() => end, "DoorError", /^another connection/);
  assert.equal(seen.lost, 0);
});

test("nobody comes back to rounds that are over", async () => {
  const { end, ends } = kept(async () => true);
  ends[0]!.lose();
  await turn();
  mock.timers.tick(1000);
  await refused(() => end, "DoorError", "the server has ended its rounds meanwhile");
  assert.equal(ends.length, 1);
});

test("who leaves, or has the network again, does not wait", async () => {
  const listening = new EventTarget();
  const real = globalThis.addEventListener;
  globalThis.addEventListener = listening.addEventListener.bind(listening) as typeof addEventListener;
  const { ends, aborting } = kept();
  ends[0]!.lose();
  await turn();
  listening.dispatchEvent(new Event("online"));
  await turn();
  assert.equal(ends.length, 2);
  ends[1]!.lose();
  await turn();
  aborting.abort();
  await turn();
  assert.equal(ends.length, 3, "the connection finds out itself that the person has left");
  globalThis.addEventListener = real;
});
