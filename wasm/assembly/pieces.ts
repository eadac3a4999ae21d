// pieces: how the threads of a team divide what takes long. Each part begins with its share of a task's units (blocks of rows, heads, ...) and takes
// pieces from the front of it; with none left it takes from the back of another's. So a thread whose processor is slow, or that comes late, holds
// the others up by a piece and not by half of a share; and a thread reads the weights of its share in one stream.
//   RANGES + 64 * part  [4 tasks published together, 2] i64: what is left of a part's share in a task's first division and in its second, the first
//                       unit in the low half, the unit behind the last in the high one
// A part sets its own range when it begins, and all are empty when the task is done: what one finds at another's is always of this task. A kernel that
// divides twice takes the second range for it, for others may still be busy with the first.
// Units are whole outputs (task.ts), so that no bit depends on who computes them.

import { share } from './task';

/** Behind the words of team.ts (wasm/threads.ts places those); a cache line for each of 60 threads. */
const RANGES: usize = 9216;
const LINE: usize = 64;
/** Bytes of weights times tokens in a piece: half a microsecond and more, beside which taking it costs nothing. */
const PIECE_BYTES: usize = 16384;

/** No piece is left. */
export const NONE: i64 = 0;

/** Which of a task's divisions. */
export const FIRST: usize = 0, SECOND: usize = 8;

@inline export function pieceBegin(piece: i64): i32 { return <i32>piece; }
@inline export function pieceEnd(piece: i64): i32 { return <i32>(piece >> 32); }

/** Tasks lie 128 bytes apart, in sets of four (wasm/threads.ts). */
@inline function rangeOf(task: usize, part: i32, division: usize): usize {
  return RANGES + <usize>part * LINE + (task >> 3 & 0x30) + division;
}

@inline function range(begin: i32, end: i32): i64 {
  return <i64>begin | <i64>end << 32;
}

/** Units in a piece, for units that read `bytes` of weights each for `tokens`. */
@inline export function pieceSize(bytes: usize, tokens: i32): i32 {
  return max(1, <i32>(PIECE_BYTES / max<usize>(1, bytes * <usize>tokens)));
}

/** Begins part's share of `total` units and takes its first piece, of up to `size` units. One part takes all as one piece. */
export function firstPiece(task: usize, total: i32, size: i32, part: i32, parts: i32, division: usize = FIRST): i64 {
  if (parts == 1) return range(0, total);
  atomic.store<i64>(rangeOf(task, part, division), range(share(total, part, parts), share(total, part + 1, parts)));
  return nextPiece(task, size, part, parts, division);
}

export function nextPiece(task: usize, size: i32, part: i32, parts: i32, division: usize = FIRST): i64 {
  if (parts == 1) return NONE;
  for (let i = 0, owner = part; i < parts; i++, owner = owner + 1 == parts ? 0 : owner + 1) {
    const address = rangeOf(task, owner, division);
    for (let left = atomic.load<i64>(address); pieceBegin(left) < pieceEnd(left); left = atomic.load<i64>(address)) {
      const begin = pieceBegin(left), end = pieceEnd(left);
      // Of another's share no more than half, so that its owner has something to go on with.
      const cut = i == 0 ? min(begin + size, end) : end - min(size, end - begin + 1 >> 1);
      const taken = i == 0 ? range(begin, cut) : range(cut, end), rest = i == 0 ? range(cut, end) : range(begin, cut);
      if (atomic.cmpxchg<i64>(address, left, rest) == left) return taken;
    }
  }
  return NONE;
}
