/** Train here: local training with its progress, and what it did to held-out sentences of one's own. */

import type { App, View } from "./app.ts";
import { MIN_SENTENCES, split } from "./batches.ts";
import { eligibility } from "./capabilities.ts";
import { byId, make, show } from "./dom.ts";
import type { Progress, TrainingResult } from "./rpc.ts";
import { kept } from "./store.ts";

const BUDGETS_S = [15, 60, 300];

export class TrainView implements View {
  private isRunning = false;
  private isAllowed = false;
  private result: TrainingResult | null = null;

  constructor(private readonly app: App) {
    byId("train-ready").addEventListener("change", () => void this.refresh());
    byId("train-start").addEventListener("click", () => void this.train());
    byId("train-stop").addEventListener("click", () => void app.client.call("stop"));
    byId("train-unlearn").addEventListener("click", () => void this.unlearn());
    app.client.listen((progress) => this.hear(progress));
  }

  async refresh(): Promise<void> {
    const { strings, opened } = this.app;
    const { train, heldOut } = split(await kept());
    const have = train.length + heldOut.length;
    byId("train-count").textContent = strings.number(train.length);
    byId("train-held").textContent = strings.number(heldOut.length);
    const { charging } = await eligibility();
    const said = charging === null ? "train.unknown" : charging ? "train.yes" : "train.no";
    byId("train-charging").textContent = strings.say(said);
    show(byId("train-confirm"), charging !== true);
    this.isAllowed = charging === true || byId<HTMLInputElement>("train-ready").checked;
    let why = "";
    if (have < MIN_SENTENCES) why = strings.say("train.whyFew", { n: MIN_SENTENCES, have });
    else if (heldOut.length === 0) why = strings.say("train.whySame");
    else if (!this.isAllowed) why = strings.say("train.whyConfirm");
    byId("train-why").textContent = why;
    byId<HTMLButtonElement>("train-start").disabled = opened === null || why !== "" || this.isRunning;
    show(byId("train-result"), this.result !== null);
    if (this.result !== null) this.report(this.result);
    show(byId("train-unlearn"), opened?.isPersonal === true && !this.isRunning);
    const budget = byId<HTMLSelectElement>("train-budget");
    const chosen = Number(budget.value || BUDGETS_S[1]);
    budget.replaceChildren(...BUDGETS_S.map((s) => new Option(this.duration(s), String(s), false, s === chosen)));
  }

  private duration(seconds: number): string {
    const { strings } = this.app;
    return seconds < 60 ? strings.say("train.seconds", { n: seconds }) : strings.count("train.minutes", seconds / 60);
  }

  private async train(): Promise<void> {
    this.isRunning = true;
    this.app.outcome("train-outcome", "");
    byId<HTMLProgressElement>("train-bar").value = 0;
    this.running();
    await this.refresh();
    try {
      const result = await this.app.client.call("train", Number(byId<HTMLSelectElement>("train-budget").value));
      if (this.app.opened !== null && result.isKept) this.app.opened = { ...this.app.opened, isPersonal: true };
      this.result = result;
      await this.refresh();
      this.app.outcome("train-outcome", this.app.strings.say(`train.end.${result.end}`));
    } catch (error) {
      this.app.outcome("train-outcome", this.app.sentence(error), false);
    } finally {
      this.isRunning = false;
      this.running();
      this.app.status();
      await this.app.refresh();
    }
  }

  private running(): void {
    show(byId("train-stop"), this.isRunning);
    show(byId("train-progress"), this.isRunning);
    if (this.isRunning) byId("train-stop").focus();
  }

  private hear(progress: Progress): void {
    const { strings } = this.app;
    const line = byId("train-step");
    if (progress.kind === "recall") {
      line.textContent = strings.say(progress.when === "before" ? "train.stepBefore" : "train.stepAfter");
      this.app.announce(line.textContent);
    }
    if (progress.kind !== "step") return;
    byId<HTMLProgressElement>("train-bar").value = progress.step / progress.steps;
    line.textContent = strings.say("train.step", {
      step: progress.step,
      steps: progress.steps,
      loss: strings.number(progress.loss, 2),
      seconds: strings.number(progress.seconds, 1),
    });
  }

  private report(result: TrainingResult): void {
    const { strings } = this.app;
    const { before, after } = result;
    const share = (hits: number) => (before.words === 0 ? 0 : hits / before.words);
    byId("train-bars").replaceChildren(
      this.pair(strings.say("train.top1"), share(before.hits1), share(after.hits1)),
      this.pair(strings.say("train.top3"), share(before.hits3), share(after.hits3)),
    );
    byId("train-line").textContent = strings.say("train.line", {
      words: before.words,
      before1: before.hits1,
      after1: after.hits1,
      before3: before.hits3,
      after3: after.hits3,
    });
    const course = strings.say("train.course", {
      steps: result.steps,
      sentences: result.sentences,
      ms: strings.number(result.msPerStep, 1),
      seconds: strings.number(result.seconds, 1),
    });
    byId("train-note").textContent = `${strings.say(result.isKept ? "train.kept" : "train.notKept")} ${course}`;
  }

  private pair(title: string, before: number, after: number): HTMLElement {
    const { strings } = this.app;
    const row = (label: string, share: number, kind: string) => {
      const fill = make("i");
      fill.style.inlineSize = `${100 * share}%`;
      const track = make("div", { class: `track ${kind}`, children: [fill] });
      return [make("span", { text: label }), track, make("span", { class: "value", text: strings.percent(share) })];
    };
    const children = [
      make("b", { text: title }),
      ...row(strings.say("train.before"), before, "before"),
      ...row(strings.say("train.after"), after, "after"),
    ];
    return make("div", { class: "pair", children });
  }

  private async unlearn(): Promise<void> {
    try {
      await this.app.client.call("unlearn");
      if (this.app.opened !== null) this.app.opened = { ...this.app.opened, isPersonal: false };
      this.result = null;
      this.app.outcome("train-outcome", this.app.strings.say("train.unlearned"));
      this.app.status();
      await this.app.refresh();
    } catch (error) {
      this.app.outcome("train-outcome", this.app.sentence(error), false);
    }
  }
}
