/** The page's end of the worker. */

import { Fault } from "./faults.ts";
import type { Operations, Progress, Reply, Request } from "./rpc.ts";

interface Waiting {
  resolve(value: unknown): void;
  reject(why: Fault): void;
}

export class Client {
  private readonly worker = new Worker("worker.js");
  private readonly waiting = new Map<number, Waiting>();
  private readonly listeners = new Set<(progress: Progress) => void>();
  private last = 0;

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => this.hear(data);
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values()) reject(new Fault("other", event.message));
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
    if ("error" in reply) waiting?.reject(new Fault(reply.error.code, reply.error.detail));
    else waiting?.resolve(reply.ok);
  }
}
