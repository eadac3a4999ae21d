/** Torch sum: the sum of f32 values in the order of PyTorch's CPU kernel, so that a mean comes out with its very bits. */

/** Values added side by side: PyTorch compiles this kernel for 256-bit vectors at most. */
const LANES = 8;
/** Rows of lanes that are summed apart and joined at the end. */
const STRANDS = 4;
const LEVELS = 4;

/**
 * values [n] → their f32 sum as aten/src/ATen/native/cpu/SumKernel.cpp gives it on one thread (cascade sum): below 32,768 values
 * always, above it where PyTorch runs on one thread; on several threads it splits the values and its last bits change.
 */
export function torchSum(values: Float32Array): number {
  if (values.length < LANES) return strandSum(values, 1)[0]!;
  const whole = values.length - (values.length % LANES);
  const lanes = strandSum(values.subarray(0, whole), LANES);
  let sum = 0;
  for (let i = whole; i < values.length; i++) sum = Math.fround(sum + values[i]!);
  for (const lane of lanes) sum = Math.fround(sum + lane);
  return sum;
}

/** values [rows, width] → [width] */
function strandSum(values: Float32Array, width: number): Float32Array {
  const rows = values.length / width;
  const perStrand = Math.floor(rows / STRANDS);
  const sums = cascade(values, perStrand, STRANDS * width);
  for (let i = perStrand * STRANDS * width; i < values.length; i++) sums[i % width]! += values[i]!;
  for (let strand = 1; strand < STRANDS; strand++)
    for (let lane = 0; lane < width; lane++) sums[lane]! += sums[strand * width + lane]!;
  return sums.subarray(0, width);
}

/** values [rows, width] → [width]; partial sums move up a level whenever 2^power rows are full, so that none grows much larger than what it adds. */
function cascade(values: Float32Array, rows: number, width: number): Float32Array {
  const power = Math.max(4, Math.floor((rows <= 1 ? 0 : Math.ceil(Math.log2(rows))) / LEVELS));
  const step = 2 ** power;
  const levels = Array.from({ length: LEVELS }, () => new Float32Array(width));
  const lowest = levels[0]!;
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) lowest[i]! += values[row * width + i]!;
    if ((row + 1) % step !== 0) continue;
    for (let level = 1; level < LEVELS; level++) {
      for (let i = 0; i < width; i++) levels[level]![i]! += levels[level - 1]![i]!;
      levels[level - 1]!.fill(0);
      if (Math.floor((row + 1) / step ** level) % step !== 0) break;
    }
  }
  for (const level of levels.slice(1)) for (let i = 0; i < width; i++) lowest[i]! += level[i]!;
  return lowest;
}
