/**
 * Stands in for LiteRT.js where a test must know each update to the bit: a model whose training counts words. A step takes
 * `step` from each weight that belongs to a word of the batch, once for each time that the word stands there; weight i
 * belongs to word i modulo the number of words. Its file is JSON.
 */

interface Description {
  rows: number;
  time: number;
  step: number;
  words: number;
  embedding: number;
  cells: number;
  weights: { name: string; shape: number[] }[];
}

const product = (shape: readonly number[]): number => shape.reduce((size, side) => size * side, 1);

export class Tensor {
  constructor(
    private readonly values: Float32Array | Int32Array,
    readonly shape: readonly number[],
  ) {}

  async data(): Promise<Float32Array | Int32Array> {
    return this.values;
  }

  delete(): void {}
}

export class CompiledModel {
  readonly signatures: object;
  private readonly weights: Map<string, Float32Array>;

  constructor(private readonly described: Description) {
    this.weights = new Map(described.weights.map(({ name, shape }) => [name, new Float32Array(product(shape))]));
    const tokens = { name: "tokens", shape: [described.rows, described.time] };
    this.signatures = {
      train_fixed: { getInputDetails: () => [tokens] },
      get_weights: { getOutputDetails: () => described.weights },
    };
  }

  async run(signature: string, inputs: Record<string, Tensor>): Promise<unknown> {
    if (signature === "get_weights") return [...this.weights.values()].map((values) => new Tensor(values.slice(), [values.length]));
    if (signature === "set_weights") {
      for (const [name, tensor] of Object.entries(inputs)) this.weights.set(name, ((await tensor.data()) as Float32Array).slice());
      return {};
    }
    return signature === "train_fixed" ? this.step(inputs) : this.next();
  }

  private async step(inputs: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    const [targets, mask] = await Promise.all(["targets", "mask"].map((name) => inputs[name]!.data()));
    const times = new Array<number>(this.described.words).fill(0);
    targets!.forEach((id, place) => (times[id] = (times[id] ?? 0) + mask![place]!));
    let at = 0;
    for (const values of this.weights.values()) {
      for (let index = 0; index < values.length; index++, at++) values[index]! -= this.described.step * times[at % times.length]!;
    }
    return { loss: new Tensor(Float32Array.of(1), []) };
  }

  private next(): Record<string, Tensor> {
    const { embedding, cells } = this.described;
    return {
      ids: new Tensor(Int32Array.of(4, 5, 6), [3]),
      next_hidden: new Tensor(new Float32Array(embedding), [1, embedding]),
      next_cell: new Tensor(new Float32Array(cells), [1, cells]),
    };
  }
}

export const loadLiteRt = async (): Promise<void> => undefined;
export const supportsFeature = async (): Promise<boolean> => true;
export const loadAndCompile = async (file: Uint8Array): Promise<CompiledModel> =>
  new CompiledModel(JSON.parse(new TextDecoder().decode(file)) as Description);
