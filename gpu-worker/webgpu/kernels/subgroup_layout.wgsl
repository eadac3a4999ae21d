// Size of each thread's subgroup and its place in it: found [threads][2] u32. One workgroup.
enable subgroups;
struct Params { threads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read_write> found: array<vec2<u32>>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_size) size: u32,
  @builtin(subgroup_invocation_id) place: u32,
) {
  if (thread < params.threads) { found[thread] = vec2<u32>(size, place); }
}
