// GPTQ's sweep over one block of columns (arXiv:2210.17323, in AutoGPTQ's order of updates): a thread takes one row through the block.
//   weight  [columns, rows] f32: corrected by the blocks before this one
//   lower   [columns, stride] f32: lower[i, j] = U[j, i] for j ≤ i, with UᵀU = (H + damping·I)⁻¹
//   groupOf [columns] u32
//   errors  [block, rows] f32: (value − its level's value) / U[i, i]
//   levels  [ceil(columns / 4), rows] u32: four columns' levels in a word, lowest byte first. 4 divides the block's begin
//   scales, zeros [groups, rows] f32. RUNNING: found here, of the weights before this block's corrections; else given
// Workgroups of THREADS rows in one line. A column's value is weight − Σ over the block's columns before it of error · U, in their order, in f32.
// Errors pass through workgroup memory, a column of it a thread's own (16 KiB): no barrier. Bound by its reads, at most 64 a weight.
// Reference: gpu-worker/quantize/reference-kernels.ts.
struct Params { rows: u32, columns: u32, stride: u32, begin: u32, count: u32, groupSize: u32, maxLevel: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> weight: array<f32>;
@group(0) @binding(next) var<storage, read> lower: array<f32>;
@group(0) @binding(next) var<storage, read> groupOf: array<u32>;
@group(0) @binding(next) var<storage, read_write> errors: array<f32>;
@group(0) @binding(next) var<storage, read_write> levels: array<u32>;
@group(0) @binding(next) var<storage, read_write> scales: array<f32>;
@group(0) @binding(next) var<storage, read_write> zeros: array<f32>;
#include "solver_grid.wgsl"
const BLOCK = 128u;
var<workgroup> own: array<f32, BLOCK * u32(THREADS)>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = group.x * u32(THREADS) + thread;
  if (row >= params.rows) { return; }
  var word = 0u;
  for (var i = 0u; i < params.count; i++) {
    let column = params.begin + i;
    let at = groupOf[column] * params.rows + row;
#if RUNNING
    if (column % params.groupSize == 0u) {
      let found = gridOf(row, column, min(column + params.groupSize, params.columns));
      scales[at] = found.scale;
      zeros[at] = found.zero;
    }
#endif
    let grid = Grid(scales[at], zeros[at]);
    let uAt = column * params.stride + params.begin;
    var value = weight[column * params.rows + row];
    for (var j = 0u; j < i; j++) { value -= own[j * u32(THREADS) + thread] * lower[uAt + j]; }
    let level = levelOf(value, grid);
    let error = (value - valueOf(level, grid)) / lower[uAt + i];
    own[i * u32(THREADS) + thread] = error;
    errors[i * params.rows + row] = error;
    word |= u32(level) << (8u * (i % 4u));
    if (i % 4u == 3u || i + 1u == params.count) {
      levels[(column / 4u) * params.rows + row] = word;
      word = 0u;
    }
  }
}
