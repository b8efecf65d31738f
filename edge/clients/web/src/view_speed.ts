/** Speed: times this device, and saves the figures as JSON. */

import type { App, View } from "./app.ts";
import { byId, make, save, show } from "./dom.ts";
import { LITERT_VERSION } from "./litert_version.ts";
import type { Distribution } from "./quantiles.ts";
import type { BenchmarkResult } from "./rpc.ts";

interface Platform {
  userAgentData?: { getHighEntropyValues(names: string[]): Promise<Record<string, unknown>> };
  deviceMemory?: number;
}

/** What the browser says of the device; empty where it does not. */
async function device(): Promise<Record<string, unknown>> {
  const { userAgentData, deviceMemory } = navigator as Platform;
  const detail = await userAgentData?.getHighEntropyValues(["model", "platform", "platformVersion", "architecture"]);
  return {
    user_agent: navigator.userAgent,
    model: detail?.["model"] ?? "",
    platform: detail?.["platform"] ?? "",
    architecture: detail?.["architecture"] ?? "",
    processors: navigator.hardwareConcurrency,
    memory_gib: deviceMemory ?? null,
  };
}

export class SpeedView implements View {
  private result: BenchmarkResult | null = null;

  constructor(private readonly app: App) {
    byId("speed-start").addEventListener("click", () => void this.measure());
    byId("speed-save").addEventListener("click", () => void this.save());
    app.client.listen((progress) => {
      if (progress.kind === "benchmark") byId<HTMLProgressElement>("speed-bar").value = progress.done / progress.of;
    });
  }

  async refresh(): Promise<void> {
    byId<HTMLButtonElement>("speed-start").disabled = this.app.opened === null;
    if (this.result !== null) this.report(this.result);
  }

  private async measure(): Promise<void> {
    const bar = byId<HTMLProgressElement>("speed-bar");
    const button = byId<HTMLButtonElement>("speed-start");
    button.disabled = true;
    bar.value = 0;
    show(bar, true);
    this.app.outcome("speed-outcome", "");
    try {
      this.result = await this.app.client.call("benchmark");
      this.report(this.result);
      this.app.outcome("speed-outcome", this.app.strings.say("speed.done"));
    } catch (error) {
      this.app.outcome("speed-outcome", this.app.sentence(error), false);
    } finally {
      button.disabled = false;
      show(bar, false);
    }
  }

  private report(result: BenchmarkResult): void {
    const { strings } = this.app;
    const ms = (value: number) => strings.number(value, value < 10 ? 2 : 0);
    const row = (name: string, ...values: number[]) => {
      const head = make("th", { text: name });
      head.scope = "row";
      const cells = [0, 1, 2].map((index) => make("td", { text: values[index] === undefined ? "" : ms(values[index]) }));
      return make("tr", { children: [head, ...cells] });
    };
    const spread = ({ p50, p90, p99 }: Distribution): number[] => [p50, p90, p99];
    byId("speed-rows").replaceChildren(
      ...result.train_step_ms.map((step) =>
        row(strings.say("speed.step", { n: step.sentences, rows: step.rows }), ...spread(step)),
      ),
      ...result.key_stroke_ms.map((stroke) => row(strings.say("speed.stroke", { model: stroke.model }), ...spread(stroke))),
      row(strings.say("speed.loadLibrary"), result.load_ms.library),
      row(strings.say("speed.loadInfer"), result.load_ms.infer),
      row(strings.say("speed.loadTrain"), result.load_ms.train),
    );
    show(byId("speed-table"), true);
    show(byId("speed-save"), true);
  }

  private async save(): Promise<void> {
    const { opened } = this.app;
    if (opened === null || this.result === null) return;
    const content = {
      format: "fedkeys web benchmark 1",
      runtime: `litertjs ${LITERT_VERSION}, 1 thread`,
      manifest_sha256: opened.digest,
      weights: opened.numWeights,
      device: await device(),
      ...this.result,
    };
    save("fedkeys-benchmark.json", `${JSON.stringify(content, null, 1)}\n`, "application/json");
  }
}
