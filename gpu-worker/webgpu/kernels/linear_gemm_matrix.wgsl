// Many tokens where the adapter multiplies matrices by subgroups (tensor cores): y = x · Wᵀ in tiles of TILE_M tokens × 64 rows by four subgroups of
// SUBGROUP threads, SUBGROUPS_N of them side by side, each with FRAGMENTS_M × FRAGMENTS_N products of M × N, K channels at a time.
// f16 × f16, summed in f32. Weights are dequantised once a tile, STAGE chunks at a time, into workgroup memory as f16; activations come from
// memory as they are. f16 holds 2^−14 to 2^16: each token's activations and each row's weights are scaled by a power of two, so that the largest
// lies in [2^14, 2^15), and the products are scaled back in f32: what is 2^28 times smaller than the largest loses digits, nothing overflows.
// Bound by matrix units, once the tile's dequantisation is shared by enough tokens. Not for an order of summation: the hardware's is its own.
/// Offsets and strides of the matrices count vectors of four. A row of the tile is longer by eight values than it need be: neighbours lie in other banks.
const LEAD = u32(STAGE) * 8u + 2u;
const TILE_N = 64u;
const WIDTH = u32(FRAGMENTS_N * N);
var<workgroup> tileW: array<vec4<f16>, 64 * LEAD>;
var<workgroup> ends: array<vec4<f32>, M * FRAGMENTS_N * N>;

/// Scaled back, the smaller factor first, so that neither overflows alone.
fn scaledBack(sums: vec4<f32>, token: u32, quad: u32) -> vec4<f32> {
  let ofToken = vec4<f32>(factors[token]);
  let ofRows = vec4<f32>(rowFactors[4u * quad].y, rowFactors[4u * quad + 1u].y, rowFactors[4u * quad + 2u].y, rowFactors[4u * quad + 3u].y);
  let isSmaller = ofToken < ofRows;
  return sums * select(ofRows, ofToken, isSmaller) * select(ofToken, ofRows, isSmaller);
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  prepare(thread);
  let token0 = group.y * u32(TILE_M) + (subgroup / u32(SUBGROUPS_N)) * u32(FRAGMENTS_M * M);
  let column0 = (subgroup % u32(SUBGROUPS_N)) * WIDTH;
  let row0 = group.x * TILE_N;
  let lastRow = (params.rows - 1u) | 3u;
#repeat i FRAGMENTS_M
#repeat j FRAGMENTS_N
  var sum$i_$j: subgroup_matrix_result<f32, N, M>;
#end
#end
  let end = min((group.z + 1u) * params.splitChunks, params.chunks);
  for (var chunk = group.z * params.splitChunks; chunk < end; chunk += u32(STAGE)) {
    let stage = min(u32(STAGE), end - chunk);
    for (var task = thread; task < TILE_N * 4u * stage; task += u32(THREADS)) {
      let block = task % (4u * stage);
      let column = task / (4u * stage);
      let row = min(row0 + column, lastRow);
      let terms = termsOf(row / 4u, chunk + block / 4u);
      let found = eight(row, 4u * chunk + block, terms.zeros[row % 4u]);
      let scale = PRESCALE * (terms.scales[row % 4u] * rowFactors[row].x);
      tileW[column * LEAD + 2u * block] = vec4<f16>(found.low * scale);
      tileW[column * LEAD + 2u * block + 1u] = vec4<f16>(found.high * scale);
    }
    workgroupBarrier();
    for (var k = 0u; k < 8u * stage; k += u32(K / 4)) {
#repeat j FRAGMENTS_N
      let right$j = subgroupMatrixLoad<subgroup_matrix_right<f16, N, K>, col_major>(&tileW, (column0 + u32($j * N)) * LEAD + k, LEAD);
#end
#repeat i FRAGMENTS_M
      {
        let left = subgroupMatrixLoad<subgroup_matrix_left<f16, K, M>, row_major>(&x, ((token0 + u32($i * M)) * params.chunks + chunk) * 8u + k, params.chunks * 8u);
#repeat j FRAGMENTS_N
        sum$i_$j = subgroupMatrixMultiplyAccumulate(left, right$j, sum$i_$j);
#end
      }
#end
    }
    workgroupBarrier();
  }
  let own = subgroup * u32(M) * WIDTH / 4u;
#repeat i FRAGMENTS_M
#repeat j FRAGMENTS_N
  subgroupMatrixStore<row_major>(&ends, own + u32($j * N / 4), sum$i_$j, WIDTH / 4u);
#end
  workgroupBarrier();
  for (var task = lane; task < u32(M) * WIDTH / 4u; task += u32(SUBGROUP)) {
    let token = token0 + u32($i * M) + task / (WIDTH / 4u);
    let quad = (row0 + column0) / 4u + task % (WIDTH / 4u);
    if (token < params.tokens && 4u * quad < params.rows) {
      putQuad(group.z, token, quad, scaledBack(ends[own + task], token, quad));
    }
  }
  workgroupBarrier();
#end
}
