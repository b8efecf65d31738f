// What a session of secure aggregation costs the browser's client, for benchmarks/web.py: a session as JSON on standard
// input, and the CPU seconds of each stage, with the digest of its answer, on standard output.

import { readFileSync } from "node:fs";
import { fromHex, hex, sha256 } from "../src/primitives.ts";
import { SecAggClient } from "../src/secagg.ts";
import { identityKey, policyOf, replayed, type PolicyFields } from "./vectors.ts";

interface Session {
  policy: PolicyFields;
  enrolled: string[];
  agreed: string;
  index: number;
  identity: string;
  draws: string[];
  vector: string;
  wires: Record<string, string>;
}

const session = JSON.parse(readFileSync(0, "utf8")) as Session;
const { policy, enrolled, agreed, index, identity, draws } = session;
const vector = new Uint32Array(fromHex(session.vector).buffer);
const wires = Object.values(session.wires).map(fromHex);
const own = { key: await identityKey(identity), publicKey: fromHex(enrolled[index]!) };
const client = new SecAggClient(own, new Set(enrolled), policyOf(policy), new Set(), fromHex(agreed), replayed(draws));
const steps = [client.advertise, client.share, (wire: (typeof wires)[number]) => client.mask(wire, vector), client.consent, client.unmask];

const costs = [];
for (const [place, stage] of Object.keys(session.wires).entries()) {
  const before = process.cpuUsage();
  const answer = await steps[place]!.call(client, wires[place]!);
  const { user, system } = process.cpuUsage(before);
  costs.push({ stage, cpu_s: (user + system) / 1e6, answer: hex(await sha256(answer)) });
}
console.log(JSON.stringify(costs));
