/** Your words stay here: what is kept, shown, counted, capped, imported and deleted. */

import type { App, View } from "./app.ts";
import { byId, make, show } from "./dom.ts";
import { type Person, readImport } from "./imports.ts";
import { CAPS, enforce, forget, forgetAll, type Kept, keep, kept, put, settings } from "./store.ts";
import { sentences } from "./tokeniser.ts";

const PAGE = 50;
const MOST_MESSAGES = 20_000; // of an imported file, its last ones: more than the largest cap keeps

export class WordsView implements View {
  private shown = PAGE;
  private people: Person[] = []; // of a chat that is being imported, until the person said who they are

  constructor(private readonly app: App) {
    const cap = byId<HTMLSelectElement>("words-cap");
    const keepSwitch = byId<HTMLInputElement>("words-keep");
    keepSwitch.addEventListener("change", () => this.tried(() => this.choose(keepSwitch.checked, Number(cap.value))));
    cap.addEventListener("change", () => this.tried(() => this.choose(keepSwitch.checked, Number(cap.value))));
    byId("words-delete").addEventListener("click", () => this.tried(() => this.deleteAll()));
    byId("words-file").addEventListener("change", ({ target }) => this.tried(() => this.importFile(target as HTMLInputElement)));
    byId("words-who").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.tried(() => this.importOwn());
    });
    byId("words-cancel").addEventListener("click", () => this.ask([], app.strings.say("words.whoCancelled")));
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
    if (this.people.length > 0) this.ask(this.people); // in the language that was chosen since
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
    const file = input.files?.[0];
    if (file === undefined) return;
    this.ask([]);
    try {
      const found = readImport(new Uint8Array(await file.arrayBuffer()));
      if ("messages" in found) await this.keepMessages(found.messages);
      else {
        this.ask(found.people);
        byId("words-names").focus();
      }
    } finally {
      input.value = ""; // so that the same file can be chosen again
    }
  }

  /** Asks which of these people it is; of none of them, there is nothing to ask. */
  private ask(people: Person[], outcome = ""): void {
    this.people = people;
    const { strings } = this.app;
    const names = byId<HTMLSelectElement>("words-names");
    const chosen = names.value; // nobody at first: the person says it
    const label = ({ name, messages }: Person) => strings.count("words.whoName", messages.length, { name });
    const options = people.map((person, index) => new Option(label(person), String(index), false, String(index) === chosen));
    names.replaceChildren(new Option(strings.say("words.whoChoose"), ""), ...options);
    show(byId("words-who"), people.length > 0);
    this.app.outcome("words-outcome", outcome);
  }

  private async importOwn(): Promise<void> {
    const own = this.people[Number(byId<HTMLSelectElement>("words-names").value)];
    this.ask([]);
    if (own !== undefined) await this.keepMessages(own.messages);
  }

  private async keepMessages(messages: readonly string[]): Promise<void> {
    const { strings } = this.app;
    const found = messages.slice(-MOST_MESSAGES).flatMap((message) => sentences(message).map((words) => words.join(" ")));
    const { keep: isKept } = await settings();
    const number = await keep(found);
    await this.app.refresh();
    if (!isKept) this.app.outcome("words-outcome", strings.say("words.importOff"), false);
    else if (found.length === 0) this.app.outcome("words-outcome", strings.say("words.importNone"), false);
    else this.app.outcome("words-outcome", strings.count("words.imported", number));
  }
}
