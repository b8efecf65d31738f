/** Tensors of float32 as flat arrays, and several of them one after the other in one. */

/** Returns how many numbers a tensor of a shape has; a scalar, of shape [], has one. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((product, length) => product * length, 1);

/** Returns how many numbers tensors of these shapes have together. */
export const totalSize = (shapes: readonly (readonly number[])[]): number => shapes.reduce((sum, shape) => sum + sizeOf(shape), 0);

/** Returns tensors as one array, in their order. */
export function joined(tensors: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const whole = new Float32Array(tensors.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const tensor of tensors) {
    whole.set(tensor, at);
    at += tensor.length;
  }
  return whole;
}

/** Returns what `joined` joined: a copy of each tensor. */
export function parted(whole: Float32Array, shapes: readonly (readonly number[])[]): Float32Array[] {
  let at = 0;
  return shapes.map((shape) => whole.slice(at, (at += sizeOf(shape))));
}
