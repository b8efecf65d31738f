/** The page: it starts the worker, shows one part at a time and tells faults in one sentence each. */

import { TRAINING_FILES } from "./bundle.ts";
import { eligibility, missing } from "./capabilities.ts";
import { Client } from "./client.ts";
import { byId, show } from "./dom.ts";
import { asFault } from "./faults.ts";
import type { Opened } from "./rpc.ts";
import { fill, type Key, type Language, LANGUAGES, load, preferred, type Strings } from "./strings.ts";
import { CheckView } from "./view_check.ts";
import { JoinView } from "./view_join.ts";
import { SpeedView } from "./view_speed.ts";
import { TrainView } from "./view_train.ts";
import { WordsView } from "./view_words.ts";
import { WriteView } from "./view_write.ts";

const LANGUAGE = "fedkeys.language"; // in localStorage
const CHANNEL = "fedkeys"; // tells other tabs that something was deleted
const CODE = "#code="; // the operator's address has a phone's code after it
const PARTS = ["write", "words", "train", "join", "check", "speed"];

/** A part of the page. */
export interface View {
  /** The language changed, or what is kept. */
  refresh(): Promise<void>;
}

/** What the views share. */
export class App {
  opened: Opened | null = null;
  readonly join: JoinView;
  private readonly views: View[];
  private readonly channel = new BroadcastChannel(CHANNEL);

  constructor(
    public strings: Strings,
    readonly client: Client,
  ) {
    this.join = new JoinView(this);
    this.views = [new WriteView(this), new WordsView(this), new TrainView(this), this.join, new CheckView(this), new SpeedView(this)];
    this.channel.onmessage = () => void this.forgotten();
  }

  /** Returns a fault as one sentence. */
  sentence(error: unknown): string {
    const { code, detail } = asFault(error);
    return this.strings.say(`error.${code}`, { detail });
  }

  /** Shows an outcome in its place, where a screen reader reads it out. */
  outcome(id: string, text: string, isGood = true): void {
    const place = byId(id);
    place.textContent = text;
    place.dataset["state"] = isGood ? "good" : "bad";
  }

  /** Says something to screen readers only. */
  announce(text: string): void {
    byId("live").textContent = text;
  }

  async refresh(): Promise<void> {
    for (const view of this.views) await view.refresh();
  }

  /** Everything was deleted in this tab. */
  async tellOthers(): Promise<void> {
    this.channel.postMessage("forgotten");
  }

  /** Everything was deleted in another tab: this one's model goes as well. */
  private async forgotten(): Promise<void> {
    if (this.opened !== null) {
      await this.client.call("stopAndWait");
      await this.client.call("unlearn").catch(() => location.reload());
      this.opened = { ...this.opened, isPersonal: false };
    }
    await this.refresh();
  }

  status(): void {
    const chip = byId("status");
    let key: Key = this.opened?.isPersonal ? "status.personal" : "status.ready";
    if (this.opened?.isOffline) key = "status.offline";
    chip.dataset["state"] = this.opened ? "ready" : "loading";
    chip.textContent = this.strings.say(this.opened ? key : "status.loading");
  }

  /** The network came or went. */
  reached(isOnline: boolean): void {
    if (this.opened === null) return;
    this.opened = { ...this.opened, isOffline: !isOnline };
    this.status();
  }

  async open(): Promise<void> {
    this.status();
    try {
      this.opened = await this.client.call("open");
      this.status();
      await this.refresh();
      void this.keepOffline(this.opened.assets);
    } catch (error) {
      this.fault(this.sentence(error));
    }
  }

  /** Keeps for later what was not needed yet: the page then works, and trains, without a network. */
  private async keepOffline(assets: string[]): Promise<void> {
    // The worker fetched its files before the service worker was there, which did not see them.
    void navigator.serviceWorker?.ready.then(({ active }) => active?.postMessage({ keep: assets }));
    if ((await eligibility()).unmetered !== false) await this.client.call("files", TRAINING_FILES).catch(() => undefined); // another time
  }

  fault(text: string): void {
    byId("fault").textContent = text;
    show(byId("fault"), true);
    byId("status").dataset["state"] = "failed";
    byId("status").textContent = this.strings.say("status.failed");
  }
}

function speak(strings: Strings): void {
  document.documentElement.lang = strings.language;
  fill(document, strings);
  byId<HTMLSelectElement>("language").value = strings.language;
}

/** Shows the part that the address names. */
function route(isMoved: boolean): void {
  const wanted = location.hash.startsWith(CODE) ? "join" : location.hash.slice(1);
  const part = PARTS.includes(wanted) ? wanted : "write";
  for (const name of PARTS) show(byId(`part-${name}`), name === part);
  for (const link of document.querySelectorAll<HTMLAnchorElement>(".tabs a")) {
    if (link.hash === `#${part}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!isMoved) return;
  window.scrollTo(0, 0);
  byId(`part-${part}`).querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
}

async function start(): Promise<void> {
  const strings = await load(preferred(localStorageOr(null), navigator.languages));
  speak(strings);
  route(false);
  window.addEventListener("hashchange", () => route(true));
  const why = await missing();
  if (why !== null) {
    byId("fault").textContent = strings.say(why);
    show(byId("fault"), true);
    byId("status").dataset["state"] = "failed";
    byId("status").textContent = strings.say("status.failed");
    return;
  }
  navigator.serviceWorker?.register("sw.js").catch(() => undefined); // without it the page works, online only
  const app = new App(strings, new Client());
  byId<HTMLSelectElement>("language").addEventListener("change", async ({ target }) => {
    const chosen = LANGUAGES.find((language) => language === (target as HTMLSelectElement).value) as Language;
    rememberLanguage(chosen);
    app.strings = await load(chosen);
    speak(app.strings);
    for (const said of document.querySelectorAll(".outcome")) said.textContent = ""; // in the language of before
    app.status();
    await app.refresh();
  });
  for (const event of ["online", "offline"]) window.addEventListener(event, () => app.reached(event === "online"));
  if (location.hash.startsWith(CODE)) {
    app.join.offer(location.hash.slice(CODE.length));
    history.replaceState(null, "", "#join"); // the code stays in no history
  }
  await app.refresh().catch((error: unknown) => app.fault(app.sentence(error)));
  await app.open();
}

// localStorage throws where storage is refused.
function localStorageOr(fallback: string | null): string | null {
  try {
    return localStorage.getItem(LANGUAGE);
  } catch {
    return fallback;
  }
}

function rememberLanguage(language: Language): void {
  try {
    localStorage.setItem(LANGUAGE, language);
  } catch {
    // It is asked for again next time.
  }
}

void start();
