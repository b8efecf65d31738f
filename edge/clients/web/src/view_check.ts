/** Check: the bundle's signature, files and words, this device's arithmetic, and the page's own digest. */

import type { App, View } from "./app.ts";
import { digestOf } from "./bundle.ts";
import { byId, make } from "./dom.ts";
import type { Opened } from "./rpc.ts";
import type { Key } from "./strings.ts";
import { remove } from "./store.ts";

const SHOWN_DIGITS = 16;

export class CheckView implements View {
  private language = "";

  constructor(private readonly app: App) {
    byId("check-start").addEventListener("click", () => void this.check());
    byId("check-unpin").addEventListener("click", async () => {
      await remove("pin");
      location.reload();
    });
  }

  async refresh(): Promise<void> {
    const { opened } = this.app;
    byId<HTMLButtonElement>("check-start").disabled = opened === null;
    if (opened !== null) byId("check-from").replaceChildren(...this.origin(opened));
    const { language } = this.app.strings;
    if (language !== this.language) byId("check-list").replaceChildren(); // what it says is in another language
    this.language = language;
  }

  private origin({ manifest, numWeights }: Opened): HTMLElement[] {
    const { strings } = this.app;
    const { run, words, model } = manifest;
    const number = model.vocabulary_size;
    const pooled = { n: words?.from_text ?? 0, people: words?.fewest_people ?? 0, public: words?.from_public ?? 0 };
    const list =
      words?.from_text != null && words.fewest_people != null
        ? strings.say("check.fromWordsPooled", pooled)
        : strings.say("check.fromWordsOther", { n: number, source: words?.source ?? "?" });
    const short = (digest: string) => `${digest.slice(0, SHOWN_DIGITS)}…`;
    const facts: [Key, string][] = [
      ["check.fromRun", strings.say("check.fromRound", { n: run.round_num })],
      ["check.fromText", `${run.corpus_name}, ${short(run.corpus_sha256)}`],
      ["check.fromWords", list],
      ["check.fromSize", `${strings.number(numWeights)}, ${short(run.weights_sha256)}`],
      ["check.fromSettings", short(run.config_sha256)],
      ["check.fromVersion", `fedkeys ${manifest.fedkeys_version}`],
    ];
    return facts.map(([key, value]) =>
      make("div", { children: [make("dt", { text: strings.say(key) }), make("dd", { text: value })] }),
    );
  }

  private async check(): Promise<void> {
    const { strings, opened, client } = this.app;
    if (opened === null) return;
    const button = byId<HTMLButtonElement>("check-start");
    button.disabled = true;
    byId("check-list").replaceChildren();
    const { key, since } = opened.signer;
    await this.row("check.signature", async () =>
      key === null
        ? [false, strings.say("check.unsigned")]
        : [true, strings.say("check.signed", { key: `${key.slice(0, SHOWN_DIGITS)}…`, since: since === null ? "" : strings.date(since) })],
    );
    await this.row("check.files", async () => [true, strings.count("check.filesOk", await client.call("files"))]);
    await this.row("check.tokeniser", async () => {
      const { messages, keyStrokes, wrong } = await client.call("vectors");
      if (wrong !== null) return [false, strings.say("check.tokeniserBad", { text: wrong })];
      return [true, strings.say("check.tokeniserOk", { messages, strokes: keyStrokes })];
    });
    await this.row("check.golden", async () => {
      const { steps, largest, tolerance, ok } = await client.call("golden");
      const values = { steps, largest: strings.scientific(largest, 1), tolerance: strings.scientific(tolerance, 0) };
      return [ok, strings.say(ok ? "check.goldenOk" : "check.goldenBad", values)];
    });
    byId("check-page").textContent = await pageDigest().catch((error: unknown) =>
      error instanceof Differs ? strings.say("check.pageDiffers", { name: error.message }) : strings.say("check.pageUnread"),
    );
    button.disabled = false;
  }

  private async row(title: Key, work: () => Promise<[boolean, string]>): Promise<void> {
    const text = make("span", { text: this.app.strings.say("check.running") });
    const item = make("li", { children: [make("b", { text: this.app.strings.say(title) }), text] });
    byId("check-list").append(item);
    const [isGood, said] = await work().catch((error: unknown) => [false, this.app.sentence(error)] as const);
    item.dataset["state"] = isGood ? "good" : "bad";
    text.textContent = said;
  }
}

/** A file of the page is not the one that its list names; the message is its name. */
class Differs extends Error {}

/**
 * Returns the SHA-256 of the lines "SHA-256, two spaces, name" of this page's files in the order of their names, each
 * file read again: what `sha256sum` over the same lines gives. Throws Differs if a file is not as listed.
 */
async function pageDigest(): Promise<string> {
  const listed = (await (await fetch("files.json")).json()) as Record<string, string>;
  const lines: string[] = [];
  for (const name of Object.keys(listed).sort()) {
    const content = new Uint8Array(await (await fetch(name)).arrayBuffer());
    const digest = await digestOf(content);
    if (digest !== listed[name]) throw new Differs(name);
    lines.push(`${digest}  ${name}\n`);
  }
  return digestOf(new TextEncoder().encode(lines.join("")));
}
