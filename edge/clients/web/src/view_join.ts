/** Take part: enrol by a code, join rounds, and see each stage and all that leaves. */

import type { App, View } from "./app.ts";
import { MIN_SENTENCES } from "./batches.ts";
import { type Eligibility, eligibility } from "./capabilities.ts";
import { AGGREGATORS, demandsFor, STAGES, type Aggregator } from "./demands.ts";
import { byId, make, show } from "./dom.ts";
import { enrol, type Offer, offerOf, type ServerStatus, serverStatus } from "./enrol.ts";
import { fingerprintOf, type Operator } from "./roster.ts";
import type { Progress } from "./rpc.ts";
import { get, keptCount, remove } from "./store.ts";
import type { Key } from "./strings.ts";

const POLL_MS = 3000;
const SHOWN_DIGITS = 16;
const SHOWN_ANSWERS = 60;
const LIMITS = demandsFor(0);
const LEAST_PEOPLE = LIMITS.policy.minSurvivors; // of the smallest roster; the worker takes more of a larger one
const STAGES_OF: Record<Aggregator, readonly string[]> = { secagg: ["train", ...STAGES], split: ["train"] };

export class JoinView implements View {
  private offered: Offer = { code: "", fingerprint: "" };
  private isRunning = false;
  private status: ServerStatus | null = null;
  private isUp = true; // the connection to the server, while this page takes part
  private totalBytes = 0;
  private awake: WakeLockSentinel | null = null;

  constructor(private readonly app: App) {
    byId<HTMLInputElement>("join-fewest").value = String(LEAST_PEOPLE);
    byId("join-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.enrol();
    });
    for (const id of ["join-allow", "join-fewest", "join-sum"]) byId(id).addEventListener("change", () => void this.refresh());
    byId("join-start").addEventListener("click", () => void this.join());
    byId("join-stop").addEventListener("click", () => void app.client.call("stop"));
    byId("join-leave").addEventListener("click", () => void this.leave());
    app.client.listen((progress) => this.hear(progress));
    for (const event of ["online", "offline"]) window.addEventListener(event, () => this.tellConnection());
    // The browser lets go of the lock whenever the page is hidden.
    document.addEventListener("visibilitychange", () => void this.stayAwake());
    window.addEventListener("hashchange", () => void this.poll());
    setInterval(() => void this.poll(), POLL_MS);
    void this.suggestName();
    void this.poll();
  }

  /** The name that this browser asked for before, which the server may have enrolled though its answer was lost; else a new one. */
  private async suggestName(): Promise<void> {
    const known = await get("identity").catch(() => undefined); // a browser without storage says so elsewhere
    byId<HTMLInputElement>("join-name").value ||= known?.clientId ?? `phone-${crypto.randomUUID().slice(0, 4)}`;
  }

  /** A code that came with the page's address, and who signs the roster. */
  offer(text: string): void {
    this.offered = offerOf(text);
    byId<HTMLInputElement>("join-code").value = this.offered.code;
  }

  /** The server is asked only while this part is looked at. */
  private async poll(): Promise<void> {
    if (byId("part-join").hidden || document.hidden) return;
    this.status = await serverStatus();
    await this.refresh().catch((error: unknown) => this.app.fault(this.app.sentence(error)));
  }

  async refresh(): Promise<void> {
    const { strings, opened } = this.app;
    byId("join-server").textContent = this.serverSentence();
    const identity = await get("identity");
    const isEnrolled = identity?.isEnrolled === true;
    for (const id of ["join-name-row", "join-key-row", "join-operator-row", "join-ready", "join-leave-details"]) show(byId(id), isEnrolled);
    show(byId("join-form"), !isEnrolled);
    if (isEnrolled) {
      byId("join-name-shown").textContent = identity.clientId;
      byId("join-key").textContent = `${identity.publicKey.slice(0, SHOWN_DIGITS)}…`;
      byId("join-operator").textContent = await this.operatorSentence(identity.operator);
    }
    byId("join-allow-hint").textContent = this.allowHint(await eligibility());
    const have = await keptCount();
    let why = "";
    if (have < MIN_SENTENCES) why = strings.say("join.whyFew", { n: MIN_SENTENCES, have });
    else if (this.status?.phase === "lobby") why = strings.say("join.whyLobby");
    else if (this.status?.phase !== "rounds") why = strings.say("join.whyNone");
    else if (this.otherSum() !== null) why = strings.say("join.whySum", { sum: this.sumName(this.otherSum() ?? "") });
    else if (!byId<HTMLInputElement>("join-allow").checked) why = strings.say("join.whyAllow");
    byId("join-why").textContent = this.isRunning ? "" : why;
    byId<HTMLButtonElement>("join-start").disabled = opened === null || why !== "" || this.isRunning;
    byId<HTMLButtonElement>("join-leave").disabled = this.isRunning;
    this.insist();
  }

  private async operatorSentence(operator: Operator | undefined): Promise<string> {
    if (operator === undefined) return this.app.strings.say("join.operatorNone");
    return (await fingerprintOf(operator)).replace(/(.{4})(?=.)/g, "$1 ");
  }

  private serverSentence(): string {
    const { strings } = this.app;
    const { status } = this;
    if (status === null) return strings.say("join.serverNone");
    if (status.phase === "lobby") return strings.say("join.serverLobby", { enrolled: status.enrolled, wanted: status.wanted });
    if (status.phase === "done") return strings.say("join.serverDone");
    return status.round === null ? strings.say("join.serverRounds") : strings.say("join.serverRound", { n: status.round });
  }

  private allowHint({ charging, unmetered }: Eligibility): string {
    const { strings } = this.app;
    if (charging === null && unmetered === null) return strings.say("join.allowHint");
    const said = (value: boolean | null): string =>
      strings.say(value === null ? "train.unknown" : value ? "train.yes" : "train.no");
    const told = strings.say("join.allowTold", { charging: said(charging), unmetered: said(unmetered) });
    return `${strings.say("join.allowHint")} ${told}`;
  }

  /** The sum that the person chose. The server has no say: a run with another one is refused. */
  private aggregator(): Aggregator {
    const chosen = byId<HTMLSelectElement>("join-sum").value;
    return AGGREGATORS.find((name) => name === chosen) ?? "secagg";
  }

  /** The server's sum, if it is another than the person chose. */
  private otherSum(): string | null {
    const announced = this.status?.aggregator ?? null;
    return announced === null || announced === this.aggregator() ? null : announced;
  }

  private sumName(name: string): string {
    const key = `join.sum.${name}`;
    return this.app.strings.has(key) ? this.app.strings.say(key as Key) : name;
  }

  private fewest(): number {
    return Math.max(LEAST_PEOPLE, Math.floor(byId<HTMLInputElement>("join-fewest").valueAsNumber) || 0);
  }

  private insist(): void {
    const { strings } = this.app;
    const { policy, maxMinutes, maxLearningRate } = LIMITS;
    const isSplit = this.aggregator() === "split";
    byId("join-sum-hint").textContent = strings.say(isSplit ? "join.sumSplitHint" : "join.sumSecaggHint");
    byId("join-masked-note").textContent = strings.say(isSplit ? "join.maskedSplitNote" : "join.maskedNote");
    byId("join-left-note").textContent = strings.say(isSplit ? "join.leftSplitNote" : "join.leftNote");
    const sentences = [
      strings.say("join.insist.people", { n: this.fewest() }),
      strings.say(isSplit ? "join.insist.split" : "join.insist.sum"),
      ...(isSplit ? [] : [strings.say("join.insist.corrupt", { share: strings.percent(policy.corruptShare) })]),
      strings.say("join.insist.once"),
      strings.say("join.insist.work", { minutes: maxMinutes, rate: maxLearningRate }),
    ];
    byId("join-insist").replaceChildren(...sentences.map((text) => make("li", { text })));
  }

  private async enrol(): Promise<void> {
    const { strings } = this.app;
    const button = byId<HTMLButtonElement>("join-enrol");
    button.disabled = true;
    try {
      const typed = offerOf(byId<HTMLInputElement>("join-code").value);
      const offer = typed.code === this.offered.code && typed.fingerprint === "" ? this.offered : typed;
      const { clientId } = await enrol(offer, byId<HTMLInputElement>("join-name").value.trim());
      byId<HTMLInputElement>("join-code").value = "";
      await this.refresh();
      this.app.outcome("join-outcome", strings.say("join.enrolled", { name: clientId }));
    } catch (error) {
      this.app.outcome("join-outcome", this.app.sentence(error), false);
    } finally {
      button.disabled = false;
    }
  }

  private async leave(): Promise<void> {
    await remove("identity");
    await this.refresh();
    this.app.outcome("join-outcome", this.app.strings.say("join.left"));
  }

  private async join(): Promise<void> {
    const { strings, client } = this.app;
    this.running(true);
    this.connected(true);
    await this.refresh();
    void this.stayAwake();
    try {
      const options = { aggregator: this.aggregator(), minSurvivors: this.fewest() };
      const reason = await client.call("join", options);
      this.app.outcome("join-outcome", reason === "" ? strings.say("join.leftRounds") : strings.say("join.over", { reason }));
    } catch (error) {
      this.app.outcome("join-outcome", this.app.sentence(error), false);
    } finally {
      this.running(false);
      await this.awake?.release().catch(() => undefined);
      await this.poll();
    }
  }

  /** Keeps the screen on while this page takes part and is looked at: a phone that sleeps drops out of the round. */
  private async stayAwake(): Promise<void> {
    const isHeld = this.awake?.released === false;
    if (!this.isRunning || document.hidden || isHeld) return;
    const held = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
    this.awake = held;
    if (!this.isRunning) await held?.release().catch(() => undefined); // the rounds ended meanwhile
  }

  private running(isRunning: boolean): void {
    this.isRunning = isRunning;
    show(byId("join-stop"), isRunning);
    byId<HTMLSelectElement>("join-sum").disabled = isRunning;
    if (isRunning) byId("join-stop").focus();
  }

  private hear(progress: Progress): void {
    if (progress.kind === "connection") this.connected(progress.isUp);
    else if (progress.kind === "stage") this.atStage(progress.round, progress.stage);
    else if (progress.kind === "left") this.left(progress);
    else if (progress.kind === "roster") this.signedBy(progress);
  }

  private signedBy({ number, people, isSigned, helpers }: Progress & { kind: "roster" }): void {
    const key = isSigned ? "join.rosterSigned" : "join.rosterUnsigned";
    byId("join-roster").textContent = this.app.strings.say(key, { number, people });
    show(byId("join-roster-row"), true);
    byId("join-helpers").textContent = helpers.join(" ");
    show(byId("join-helpers-row"), helpers.length > 0);
  }

  private connected(isUp: boolean): void {
    this.isUp = isUp;
    this.tellConnection();
  }

  private tellConnection(): void {
    const isThere = this.isUp && navigator.onLine;
    if (this.isRunning) this.app.outcome("join-outcome", this.app.strings.say(isThere ? "join.waiting" : "join.lost"), isThere);
  }

  private stageName(stage: string): string {
    const key = this.aggregator() === "split" && stage === "train" ? "join.stage.split" : `join.stage.${stage}`;
    return this.app.strings.has(key) ? this.app.strings.say(key as Key) : stage;
  }

  private atStage(round: number, stage: string): void {
    const title = this.app.strings.say("join.round", { n: round });
    byId("join-round-title").textContent = title;
    const stages = STAGES_OF[this.aggregator()];
    const now = stages.indexOf(stage);
    const items = stages.map((name, index) => {
      const item = make("li", { text: this.stageName(name) });
      if (index < now) item.dataset["state"] = "done";
      if (index === now) item.setAttribute("aria-current", "step");
      return item;
    });
    byId("join-stages").replaceChildren(...items);
    show(byId("join-round"), true);
    this.app.announce(`${title}, ${this.stageName(stage)}`);
  }

  private left({ round, stage, bytes, numbers }: Progress & { kind: "left" }): void {
    const { strings } = this.app;
    const name = make("th", { text: strings.say("join.leftRow", { n: round, stage: this.stageName(stage) }) });
    name.scope = "row";
    const rows = byId("join-left-rows");
    rows.prepend(make("tr", { children: [name, make("td", { text: strings.number(bytes) })] }));
    while (rows.childElementCount > SHOWN_ANSWERS) rows.lastElementChild?.remove();
    this.totalBytes += bytes;
    byId("join-total").textContent = strings.number(this.totalBytes);
    show(byId("join-left"), true);
    const stages = STAGES_OF[this.aggregator()];
    if (stage === stages.at(-1)) this.roundOver();
    if (numbers.length === 0) return;
    byId("join-numbers").textContent = `${numbers.join(", ")} …`;
    show(byId("join-masked"), true);
  }

  private roundOver(): void {
    for (const item of byId("join-stages").children) {
      item.removeAttribute("aria-current");
      (item as HTMLElement).dataset["state"] = "done";
    }
  }
}
