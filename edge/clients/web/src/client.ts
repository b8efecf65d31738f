/** The page's end of the worker. */

import type { Operations, Progress, Reply, Request } from "./rpc.ts";

/** A fault of the worker; `code` names the sentence in strings/*.json. */
export class WorkerFault extends Error {
  override name = "WorkerFault";
  constructor(
    readonly code: string,
    readonly detail: string,
  ) {
    super(detail || code);
  }
}

interface Waiting {
  resolve(value: unknown): void;
  reject(why: WorkerFault): void;
}

export class Client {
  private readonly worker = new Worker("worker.js");
  private readonly waiting = new Map<number, Waiting>();
  private readonly listeners = new Set<(progress: Progress) => void>();
  private last = 0;

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => this.hear(data);
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values()) reject(new WorkerFault("other", event.message));
      this.waiting.clear();
    };
  }

  call<Name extends keyof Operations>(name: Name, ...args: Operations[Name][0]): Promise<Operations[Name][1]> {
    const id = ++this.last;
    return new Promise<Operations[Name][1]>((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.worker.postMessage({ id, name, args } satisfies Request);
    });
  }

  listen(listener: (progress: Progress) => void): void {
    this.listeners.add(listener);
  }

  private hear(reply: Reply): void {
    if ("progress" in reply) {
      for (const listener of this.listeners) listener(reply.progress);
      return;
    }
    const waiting = this.waiting.get(reply.id);
    this.waiting.delete(reply.id);
    if ("error" in reply) waiting?.reject(new WorkerFault(reply.error.code, reply.error.detail));
    else waiting?.resolve(reply.ok);
  }
}
