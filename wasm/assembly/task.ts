// task: how a kernel is called. Its arguments lie in a task, 4 bytes each, in the order that its banner names them and wasm/kernels.ts types them.
// The threads of a team call it at once with part 0 .. parts - 1, and each does its share of rows, tokens, heads or elements: whole outputs, so
// that the number of threads changes no order of summation and no bit.

/** Where part's share of `total` begins; it ends where the next one's begins. */
@inline export function share(total: i32, part: i32, parts: i32): i32 {
  return <i32>(<i64>total * <i64>part / <i64>parts);
}
