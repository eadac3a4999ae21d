/** Turn: calls that come together go on together and in order; a lone one is not held up. */
import { expect, test } from 'vitest';
import { Turn } from '../../edge/turn.ts';

/** Which task it is: the number goes up with each turn of the loop, which no microtask lasts beyond. */
function countTasks(): { now(): number; stop(): void } {
  let tasks = 0;
  let isStopped = false;
  const count = async () => {
    for (; !isStopped; tasks++) await scheduler.wait(0);
  };
  void count();
  return {
    now: () => tasks,
    stop: () => {
      isStopped = true;
    },
  };
}

test('many go on in one task, in the order in which they came', async () => {
  const turn = new Turn();
  const tasks = countTasks();
  const before = tasks.now();
  const went: [number, number][] = [];
  const call = async (number: number) => {
    await turn.next(16);
    went.push([number, tasks.now()]);
  };
  await Promise.all(Array.from({ length: 16 }, (_, number) => call(number)));
  tasks.stop();
  expect(went.map(([number]) => number)).toEqual(Array.from({ length: 16 }, (_, number) => number));
  expect(new Set(went.map(([, task]) => task)).size).toBe(1);
  expect(went[0]![1]).toBeGreaterThanOrEqual(before);
});

test('one of few does not wait, but never overtakes those that do', async () => {
  const turn = new Turn();
  const went: string[] = [];
  const call = async (name: string, numAtOnce: number) => {
    await turn.next(numAtOnce);
    went.push(name);
  };
  const few = call('few', 1);
  const timer = scheduler.wait(0).then(() => went.push('timer'));
  await few;
  expect(went).toEqual(['few']);
  const many = call('many', 4);
  await Promise.all([many, call('late', 1), timer]);
  expect(went.indexOf('many')).toBeLessThan(went.indexOf('late'));
});

test('a turn after a turn waits anew', async () => {
  const turn = new Turn();
  await turn.next(9);
  let isOver = false;
  const again = turn.next(9).then(() => {
    isOver = true;
  });
  await Promise.resolve();
  expect(isOver).toBe(false);
  await again;
});
