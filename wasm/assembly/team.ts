// team: how the threads of one memory take turns at tasks. Each word has a cache line of its own.
//   control        [0] i32   number of the last task published; wraps around
//   control + 64   [0] i32   threads that sleep, or are about to
//   control + 128  [parts - 1, 16] i32, first of each line: the last task that part 1, 2, ... finished
// Task n + 1 is published when all parts have finished n, so two slots for tasks suffice. A waiting thread spins, then sleeps on the published
// word; the caller (part 0) only spins: others' shares are as long as its own, and after very many rounds it sleeps for a moment at a time.
// Spin, then wait on a futex: a spin barrier costs 0.1 us, a futex 4 to 26, and where a core that is asleep must come back first 100 and more:
// with 2^14 rounds here and 2^16 there, decode of a 110M model took 23 ms a step on two cores, with these 2.9, alone 3.7.

const SLEEPERS: usize = 64;
const FINISHED: usize = 128;
const LINE: usize = 64;

/** Part 0: waits until the others have finished everything published. */
export function settle(control: usize, parts: i32): void {
  const task = atomic.load<i32>(control);
  for (let other: usize = 0; other < <usize>(parts - 1); other++) {
    const finished = control + FINISHED + other * LINE;
    for (let spins = 0; atomic.load<i32>(finished) != task; spins++) if (spins > 1 << 19) atomic.wait<i32>(finished, atomic.load<i32>(finished), 50000);
  }
}

/** Part 0: settles, then gives out the next task, whose number it returns. */
export function publish(control: usize, parts: i32): i32 {
  settle(control, parts);
  const task = atomic.load<i32>(control) + 1;
  atomic.store<i32>(control, task);
  if (atomic.load<i32>(control + SLEEPERS) != 0) atomic.notify(control, parts);
  return task;
}

/** Another part: says that it finished `seen`, and waits for what is published after it. */
export function await_task(control: usize, part: i32, seen: i32, spins: i32): i32 {
  atomic.store<i32>(control + FINISHED + <usize>(part - 1) * LINE, seen);
  for (; spins > 0; spins--) if (atomic.load<i32>(control) != seen) return atomic.load<i32>(control);
  atomic.add<i32>(control + SLEEPERS, 1);
  while (atomic.load<i32>(control) == seen) atomic.wait<i32>(control, seen, -1);
  atomic.sub<i32>(control + SLEEPERS, 1);
  return atomic.load<i32>(control);
}
