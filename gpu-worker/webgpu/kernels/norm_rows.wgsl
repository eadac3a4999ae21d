// What every norm is told: x [rows, cols] f32 by rows, weight [cols] f32, y as x. One workgroup a row.
struct Params { rows: u32, cols: u32, eps: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
#include "place.wgsl"
#include "reduce_sum.wgsl"
