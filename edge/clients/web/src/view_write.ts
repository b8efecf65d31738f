/** Write: a message, three suggestions after each word, by tap or by key. */

import type { App, View } from "./app.ts";
import { byId } from "./dom.ts";
import { keep, settings } from "./store.ts";
import { sentences, typing } from "./tokeniser.ts";

export class WriteView implements View {
  private readonly message = byId<HTMLTextAreaElement>("message");
  private readonly buttons = Array.from(byId("suggestions").querySelectorAll("button"));
  private words: string[] = [];
  private isAsking = false;
  private isAgain = false;

  constructor(private readonly app: App) {
    this.message.addEventListener("input", () => void this.suggest());
    this.message.addEventListener("keydown", (event) => this.key(event));
    this.buttons.forEach((button, index) => button.addEventListener("click", () => this.insert(index)));
    byId("done").addEventListener("click", () => void this.done());
  }

  async refresh(): Promise<void> {
    const { keep: isKept } = await settings();
    byId("done").textContent = this.app.strings.say(isKept ? "write.done" : "write.doneNothing");
    if (this.app.opened !== null) await this.suggest();
  }

  private key(event: KeyboardEvent): void {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      void this.done();
    }
    const index = event.altKey ? ["Digit1", "Digit2", "Digit3"].indexOf(event.code) : -1;
    if (index >= 0) {
      event.preventDefault();
      this.insert(index);
    }
  }

  /** Asks for suggestions; while an answer is awaited, the newest text waits and what is between is left out. */
  private async suggest(): Promise<void> {
    if (this.isAsking) {
      this.isAgain = true;
      return;
    }
    this.isAsking = true;
    try {
      do {
        this.isAgain = false;
        await this.ask();
      } while (this.isAgain);
    } catch (error) {
      this.app.fault(this.app.sentence(error));
    } finally {
      this.isAsking = false;
    }
  }

  private async ask(): Promise<void> {
    if (this.app.opened === null) return;
    const start = performance.now();
    const text = this.beforeCaret();
    const { before, half } = typing(text);
    const typed = asTyped(text, half);
    const { words, isPersonal } = await this.app.client.call("suggest", before, half);
    const ms = performance.now() - start;
    this.words = words;
    this.buttons.forEach((button, index) => {
      const word = this.cased(words[index] ?? "", typed);
      button.textContent = word;
      button.disabled = word === "";
      button.setAttribute("aria-label", word === "" ? "" : this.app.strings.say("write.suggest", { word }));
    });
    byId("suggestions").dataset["for"] = text;
    const shown = this.app.strings.number(ms, 1);
    byId("write-speed").textContent = this.app.strings.say(isPersonal ? "write.speedPersonal" : "write.speed", { ms: shown });
  }

  private beforeCaret(): string {
    return this.message.value.slice(0, this.message.selectionStart);
  }

  /** Writes a suggestion with a capital if the word as it is typed has one. */
  private cased(word: string, typed: string): string {
    return /^\p{Lu}/u.test(typed) ? word.charAt(0).toLocaleUpperCase(this.app.strings.language) + word.slice(1) : word;
  }

  private insert(index: number): void {
    const before = this.beforeCaret();
    const typed = asTyped(before, typing(before).half);
    const word = this.cased(this.words[index] ?? "", typed);
    if (word === "") return;
    const start = before.length - typed.length;
    const space = start > 0 && !/\s$/u.test(before.slice(0, start)) ? " " : "";
    this.message.setRangeText(`${space}${word} `, start, before.length, "end");
    this.message.focus();
    void this.suggest();
  }

  private async done(): Promise<void> {
    const found = sentences(this.message.value).map((words) => words.join(" "));
    const { strings } = this.app;
    try {
      const { keep: isKept } = await settings();
      const kept = await keep(found);
      this.message.value = "";
      await this.app.refresh();
      if (found.length === 0) this.app.outcome("write-outcome", strings.say("write.noWords"));
      else if (!isKept) this.app.outcome("write-outcome", strings.say("write.notKept"));
      else this.app.outcome("write-outcome", strings.count("write.kept", kept));
      this.message.focus();
    } catch (error) {
      this.app.outcome("write-outcome", this.app.sentence(error), false);
    }
  }
}

const LONGEST_WORD = 100; // in characters; what is longer has no suggestion that it begins

/** Returns the characters of the word that is being typed, `half` as the model reads it. */
function asTyped(text: string, half: string): string {
  return half === "" ? "" : (/[\p{L}\p{M}\p{Nd}'\u2019]+$/u.exec(text.slice(-LONGEST_WORD))?.[0] ?? "");
}
