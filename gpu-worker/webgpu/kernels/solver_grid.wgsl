// The scale and zero point of a row's weights [begin, end): gpu-worker/quantize/grid.ts in f32, where the constants are explained.
// SYMMETRIC: as far down as up. MSE: the best of 80 shrunk ranges by Σ|error|^2.4. Needs weight [columns, rows], params.rows, params.maxLevel.
struct Grid { scale: f32, zero: f32 }

/** 0..maxLevel, ties to even. */
fn levelOf(value: f32, grid: Grid) -> f32 {
  return clamp(round(value / grid.scale) + grid.zero, 0.0, params.maxLevel);
}

fn valueOf(level: f32, grid: Grid) -> f32 {
  return grid.scale * (level - grid.zero);
}

fn rangeGrid(low: f32, high: f32) -> Grid {
  let scale = (high - low) / params.maxLevel;
#if SYMMETRIC
  return Grid(scale, (params.maxLevel + 1.0) / 2.0);
#else
  let zero = round(-low / scale);
  if (zero > 0.0) { return Grid(scale, zero); }
  return Grid(high / (params.maxLevel - 1.0), 1.0);
#endif
}

fn gridOf(row: u32, begin: u32, end: u32) -> Grid {
  var low = 0.0;
  var high = 0.0;
  for (var k = begin; k < end; k++) {
    let value = weight[k * params.rows + row];
    low = min(low, value);
    high = max(high, value);
  }
  if (low == 0.0 && high == 0.0) {
    low = -1.0;
    high = 1.0;
  }
#if SYMMETRIC
  high = max(-low, high);
  low = -high;
#endif
  var best = rangeGrid(low, high);
#if MSE
  var least = 3.4e38;
  for (var step = 0u; step < 80u; step++) {
    let shrink = 1.0 - f32(step) / 100.0;
    let grid = rangeGrid(shrink * low, shrink * high);
    var sum = 0.0;
    for (var k = begin; k < end; k++) {
      let value = weight[k * params.rows + row];
      let error = abs(valueOf(levelOf(value, grid), grid) - value);
      if (error > 0.0) { sum += pow(error, 2.4); }
    }
    if (sum < least) {
      least = sum;
      best = grid;
    }
  }
#endif
  return best;
}
