// Shows what the server tells of itself. Everything that comes is set as text.

import { curves } from "./curves.js";

const STAGES = {
  secagg: ["train", "advertise", "shares", "upload", "consistency", "unmask"],
  encrypted: ["train", "encrypt"],
  split: ["train"],
};
const STAGE_NAMES = {
  train: "train",
  advertise: "send keys",
  shares: "share secrets",
  upload: "send masked updates",
  consistency: "agree who is left",
  unmask: "unmask the sum",
  encrypt: "send encrypted updates",
};
const STATES = {
  "": ["", "not in it"],
  chosen: ["busy", "chosen"],
  asked: ["busy", "was asked"],
  answered: ["good", "has answered"],
  silent: ["bad", "no answer"],
  refused: ["bad", "refused"],
  summed: ["good", "in the sum"],
  lost: ["bad", "not in the sum"],
};
const KINDS = { secagg: "secure aggregation", encrypted: "the encrypted sum", split: "the split sum" };
const trimmed = (value) => String(Number(value.toPrecision(3)));
const CURVES = [
  ["Loss, nats", [["train_loss", "training", "model-soft"], ["dev_loss", "dev people", "model"]], (value) => value.toFixed(2), trimmed],
  ["Recall of dev people", [["dev_top1", "top 1", "model"], ["dev_top3", "top 3", "model-soft"]], (value) => `${(100 * value).toFixed(1)} %`, (value) => `${trimmed(100 * value)} %`],
  ["Length of the mean update", [["update_norm", "norm", "model"]], (value) => value.toPrecision(3), trimmed],
];
const MOST_ROWS = 12;

const byId = (id) => document.getElementById(id);
const rounds = [];
let view = null;
let alone = {};

function make(name, text = "", attributes = {}) {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** Sets a text only where it changes: a screen reader reads each change aloud. */
function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function size(bytes) {
  for (const [unit, factor] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (bytes >= factor) return `${(bytes / factor).toPrecision(3)} ${unit}`;
  return `${bytes} B`;
}

const seconds = (value) => (value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`);
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const sum = (values) => values.reduce((total, own) => total + own, 0);

/** The one sentence that says what goes on. */
function sentence() {
  const { phase, reason, enrolled, wanted, round_num: round, num_rounds: of, stages, clients } = view;
  const [asked, answered] = ["asked", "answered"].map((state) => clients.filter((client) => client.state === state).length);
  switch (phase) {
    case "lobby":
      return `The lobby is open: ${enrolled} of ${count(wanted, "code")} used.`;
    case "waiting":
      return `Round ${round} of ${of} waits for clients.`;
    case "rounds":
      return stages.length
        ? `Round ${round} of ${of}: clients ${STAGE_NAMES[stages[stages.length - 1]] ?? stages[stages.length - 1]}; ${answered} of ${answered + asked} have answered.`
        : `Round ${round} of ${of} begins.`;
    case "done":
      return `All ${count(of, "round")} are done.`;
    case "abandoned":
      return `The run has stopped: ${reason}`;
    default:
      return "The server starts.";
  }
}

function showCards() {
  const { phase, clients, wanted, enrolled, round_num: round, num_rounds: of } = view;
  const connected = clients.filter((client) => client.is_connected).length;
  const completed = rounds.filter((own) => own.outcome === "completed");
  const cards = [
    ["clients connected", `${connected} of ${clients.length}`],
    ["round", round ? `${round} of ${of}` : "none yet"],
    ["rounds completed", `${completed.length} of ${rounds.length}`],
    ["drop-outs in all rounds", String(sum(rounds.map((own) => own.lost.length)))],
    ["received from clients", size(sum(clients.map((client) => client.bytes_up)))],
    ["sent to clients", size(sum(clients.map((client) => client.bytes_down)))],
  ];
  if (phase === "lobby") cards.splice(0, cards.length, ["codes used", `${enrolled} of ${wanted}`]);
  byId("cards").replaceChildren(
    ...cards.map(([name, value]) => {
      const card = make("div");
      card.append(make("dt", name), make("dd", value));
      return card;
    }),
  );
}

function showRound() {
  const { kind, stages, phase, round_num: round, clients } = view;
  const begun = stages.length - 1;
  const isUnderWay = phase === "rounds";
  const names = [...new Set([...(STAGES[kind] ?? []), ...stages])];
  byId("stages").replaceChildren(
    ...names.map((name) => {
      const at = stages.indexOf(name);
      const item = make("li", STAGE_NAMES[name] ?? name);
      if (isUnderWay && at === begun && at >= 0) item.setAttribute("aria-current", "step");
      else if (at >= 0) {
        item.dataset.state = "done";
        item.append(make("span", " ✓", { "aria-label": "done" }));
      }
      return item;
    }),
  );
  const members = clients.filter((client) => client.state !== "");
  const gone = members.filter((client) => ["silent", "refused", "lost"].includes(client.state)).map((client) => client.client_id);
  const lost = gone.length ? ` Not in the sum: ${gone.join(", ")}.` : " Nobody has dropped out.";
  const has = `Round ${round} has ${count(members.length, "client")}; their updates are summed by ${KINDS[kind] ?? kind}.`;
  say("round-caption", members.length ? has + lost : "No round is under way.");
}

function showClients() {
  const { clients } = view;
  byId("clients").replaceChildren(
    ...clients.map((client) => {
      const [kind, name] = STATES[client.state] ?? ["", client.state];
      const row = make("tr");
      const there = make("td", "", { "data-column": "connection", class: "text" });
      there.append(make("span", client.is_connected ? "connected" : "away", { class: "state", "data-kind": client.is_connected ? "good" : "" }));
      const state = make("td", "", { "data-column": "this round", class: "text" });
      state.append(make("span", name, { class: "state", "data-kind": kind }));
      row.append(make("th", client.client_id, { scope: "row" }), there, state, ...bytes(client.bytes_up, client.bytes_down));
      return row;
    }),
  );
  const up = clients.map((client) => client.bytes_up);
  const down = clients.map((client) => client.bytes_down);
  const rowOf = (name, of) => {
    const row = make("tr");
    row.append(make("th", name, { scope: "row" }), make("td"), make("td"), ...bytes(of(up), of(down)));
    return row;
  };
  const mean = (values) => Math.round(sum(values) / values.length);
  byId("bill").replaceChildren(...(clients.length ? [rowOf("mean of a client", mean), rowOf("in all", sum)] : []));
}

const bytes = (up, down) => [make("td", size(up), { "data-column": "up" }), make("td", size(down), { "data-column": "down" })];

function showUpload() {
  const { upload, kind } = view;
  byId("upload").hidden = upload === null;
  byId("upload-none").hidden = upload !== null;
  if (upload === null) return;
  say("upload-what", `From ${upload.client_id}, in round ${upload.round_num}: ${upload.num_bytes.toLocaleString("en")} bytes. These are ${upload.sample.length / 2} of them, from the middle:`);
  say("upload-bytes", upload.sample.match(/../g)?.join(" ") ?? "");
  say("upload-alone", alone[kind] ?? "");
}

function showRounds() {
  byId("rounds-some").hidden = rounds.length === 0;
  byId("rounds-none").hidden = rounds.length > 0;
  if (rounds.length === 0) return;
  showCurves();
  const newest = rounds.slice(-MOST_ROWS).reverse();
  byId("rounds").replaceChildren(
    ...newest.map((own) => {
      const row = make("tr");
      const outcome = own.outcome === "completed" ? "completed" : `${own.outcome}: ${own.reason}`;
      row.append(
        make("th", String(own.round_num), { scope: "row" }),
        make("td", outcome, { "data-column": "outcome", class: "text" }),
        make("td", `${own.survivors} of ${own.selected}`, { "data-column": "summed" }),
        make("td", seconds(own.wall_s), { "data-column": "time" }),
        make("td", own.lost.join(", "), { "data-column": "not in the sum", class: "text" }),
      );
      return row;
    }),
  );
  say("rounds-caption", rounds.length > MOST_ROWS ? `The newest ${MOST_ROWS} of ${count(rounds.length, "round")}.` : "");
}

function showCurves() {
  const box = byId("figures");
  const width = Math.min(box.clientWidth, 420) || 360;
  const sums = [
    { name: "selected", colour: "part1", points: rounds.map((own) => [own.round_num, own.selected]) },
    { name: "in the sum", colour: "model", points: rounds.map((own) => [own.round_num, own.survivors]) },
  ];
  const figures = [curves("Clients", sums, width, trimmed, trimmed, true)];
  for (const [title, series, write, tick] of CURVES) {
    const found = series
      .map(([metric, name, colour]) => ({ name, colour, points: rounds.filter((own) => metric in own.metrics).map((own) => [own.round_num, own.metrics[metric]]) }))
      .filter((own) => own.points.length > 0);
    if (found.length) figures.push(curves(title, found, width, write, tick));
  }
  box.replaceChildren(...figures);
  const hasLoss = rounds.some((own) => "train_loss" in own.metrics || "dev_loss" in own.metrics);
  say("curves-caption", hasLoss ? "" : "Clients send this server no loss, and it measures no recall: fedkeys evaluate does, after the run.");
}

function show() {
  if (view === null) return;
  say("run", view.run);
  document.title = `${view.run}: fedkeys operator's page`;
  byId("now").dataset.phase = view.phase;
  say("now", sentence());
  say("spoken", sentence().replace(/; .*/, ".")); // not how many have answered: that would be read aloud each time
  for (const section of document.querySelectorAll("section")) section.hidden = view.clients.length === 0;
  showCards();
  showRound();
  showClients();
  showUpload();
}

function link(state, text) {
  byId("link").dataset.state = state;
  say("link", text);
}

const source = new EventSource("events");
source.addEventListener("open", () => link("live", "live"));
source.addEventListener("about", (event) => ({ alone } = JSON.parse(event.data)));
source.addEventListener("rounds", (event) => {
  const { first, rounds: more } = JSON.parse(event.data);
  rounds.splice(first, rounds.length, ...more);
  showRounds();
  show();
});
source.addEventListener("view", (event) => {
  view = JSON.parse(event.data);
  show();
});
source.addEventListener("end", () => {
  source.close();
  link("ended", "the server has ended");
});
source.addEventListener("replaced", () => {
  source.close();
  link("ended", "too many browsers have this page open: load it again to take another's place");
});
source.addEventListener("error", () => {
  const isOver = source.readyState === EventSource.CLOSED;
  link("lost", isOver ? "the server has gone; a new one prints a new address" : "connection lost, trying again");
});

let width = 0;
new ResizeObserver(([entry]) => {
  if (Math.abs(entry.contentRect.width - width) < 1) return;
  width = entry.contentRect.width;
  showRounds();
}).observe(document.querySelector("main"));
