/** Your words stay here: what is kept, shown, counted, capped, imported and deleted. */

import type { App, View } from "./app.ts";
import { byId, make, show } from "./dom.ts";
import { CAPS, enforce, forget, forgetAll, type Kept, keep, kept, put, settings } from "./store.ts";
import { sentences } from "./tokeniser.ts";

const PAGE = 50;
const MOST_LINES = 20_000; // of an imported file, its last ones: more than the largest cap keeps

export class WordsView implements View {
  private shown = PAGE;

  constructor(private readonly app: App) {
    const cap = byId<HTMLSelectElement>("words-cap");
    const keepSwitch = byId<HTMLInputElement>("words-keep");
    keepSwitch.addEventListener("change", () => this.tried(() => this.choose(keepSwitch.checked, Number(cap.value))));
    cap.addEventListener("change", () => this.tried(() => this.choose(keepSwitch.checked, Number(cap.value))));
    byId("words-delete").addEventListener("click", () => this.tried(() => this.deleteAll()));
    byId("words-file").addEventListener("change", ({ target }) => this.tried(() => this.importFile(target as HTMLInputElement)));
    byId("words-more").addEventListener("click", () => {
      this.shown += PAGE;
      void this.refresh();
    });
  }

  async refresh(): Promise<void> {
    const { strings } = this.app;
    const [all, chosen] = [await kept(), await settings()];
    byId("words-count").textContent = strings.number(all.length);
    byId("words-unit").textContent = strings.count("words.unit", all.length, { cap: chosen.cap });
    const meter = byId<HTMLMeterElement>("words-meter");
    meter.max = chosen.cap;
    meter.value = all.length;
    byId<HTMLInputElement>("words-keep").checked = chosen.keep;
    const cap = byId<HTMLSelectElement>("words-cap");
    cap.replaceChildren(...CAPS.map((value) => new Option(strings.number(value), String(value), false, value === chosen.cap)));
    show(byId("words-empty"), all.length === 0);
    byId<HTMLButtonElement>("words-delete").disabled = all.length === 0 && this.app.opened?.isPersonal !== true;
    const newest = all.slice(-this.shown).reverse();
    byId("words-list").replaceChildren(...newest.map((one) => this.item(one)));
    show(byId("words-more"), all.length > this.shown);
  }

  private item(one: Kept): HTMLLIElement {
    const button = make("button", { text: "×" });
    button.type = "button";
    button.setAttribute("aria-label", this.app.strings.say("words.deleteOne", { words: one.words }));
    button.addEventListener("click", () => this.tried(() => this.deleteOne(one.id)));
    return make("li", { children: [make("span", { text: one.words }), button] });
  }

  private async tried(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.app.outcome("words-outcome", this.app.sentence(error), false);
    }
  }

  private async choose(isKept: boolean, cap: number): Promise<void> {
    await put("settings", { keep: isKept, cap });
    await enforce(cap);
    await this.app.refresh();
  }

  private async deleteOne(id: number): Promise<void> {
    await forget(id);
    await this.app.refresh();
    this.app.outcome("words-outcome", this.app.strings.say("words.deletedOne"));
    byId("words-list-title").scrollIntoView({ block: "nearest" });
  }

  private async deleteAll(): Promise<void> {
    // A training that goes on must not leave a model of what is deleted now.
    if (this.app.opened !== null) await this.app.client.call("stopAndWait");
    await forgetAll();
    if (this.app.opened !== null) {
      await this.app.client.call("unlearn");
      this.app.opened = { ...this.app.opened, isPersonal: false };
    }
    await this.app.tellOthers();
    this.shown = PAGE;
    this.app.status();
    await this.app.refresh();
    this.app.outcome("words-outcome", this.app.strings.say("words.deleted"));
  }

  private async importFile(input: HTMLInputElement): Promise<void> {
    const { strings } = this.app;
    const file = input.files?.[0];
    if (file === undefined) return;
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    } catch {
      this.app.outcome("words-outcome", strings.say("words.importBad"), false);
      return;
    } finally {
      input.value = "";
    }
    const found = text.trimEnd().split(/\r?\n/).slice(-MOST_LINES).flatMap((line) => sentences(line).map((words) => words.join(" ")));
    const { keep: isKept } = await settings();
    const number = await keep(found);
    await this.app.refresh();
    if (!isKept) this.app.outcome("words-outcome", strings.say("words.importOff"), false);
    else if (found.length === 0) this.app.outcome("words-outcome", strings.say("words.importBad"), false);
    else this.app.outcome("words-outcome", strings.count("words.imported", number));
  }
}
