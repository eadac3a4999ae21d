/** Step choice: the faster way is found, kept, and left again when the machine changes. */
import { expect, test } from 'vitest';
import { StepChoice, type StepWay } from '../../wasm/step-choice.ts';

/** So many steps of `tokens` tokens that take what `msOf` says; how many of them went each way. */
function run(choice: StepChoice, steps: number, tokens: number, msOf: Record<StepWay, number>) {
  const ways = { alone: 0, together: 0 };
  for (let step = 0; step < steps; step++) {
    const way = choice.choose(tokens);
    ways[way]++;
    choice.record(tokens, way, msOf[way] * tokens);
  }
  return ways;
}

test('threads that pay are used, and the other way is tried less and less often', () => {
  const choice = new StepChoice();
  expect(run(choice, 1000, 1, { alone: 3, together: 2 }).alone).toBeLessThan(24);
});

test('threads that do not pay, or hardly, are left asleep', () => {
  for (const together of [6, 3.1, 2.9]) {
    const choice = new StepChoice();
    expect(run(choice, 1000, 1, { alone: 3, together }).together).toBeLessThan(40);
  }
});

test('a machine that changes is noticed within some hundred steps, both ways', () => {
  const choice = new StepChoice();
  run(choice, 2000, 1, { alone: 3, together: 2 });
  expect(run(choice, 300, 1, { alone: 3, together: 6 }).together).toBeLessThan(40);
  run(choice, 2000, 1, { alone: 3, together: 6 });
  expect(run(choice, 700, 1, { alone: 3, together: 2 }).alone).toBeLessThan(300);
});

test('one slow step among good ones changes nothing', () => {
  const choice = new StepChoice();
  run(choice, 100, 1, { alone: 3, together: 2 });
  for (let step = 0; step < 3; step++) {
    run(choice, 1, 1, { alone: 300, together: 200 });
    // A trial of three may fall among them.
    expect(run(choice, 10, 1, { alone: 3, together: 2 }).together).toBeGreaterThanOrEqual(7);
  }
});

test('prompts and decoded tokens are judged apart', () => {
  const choice = new StepChoice();
  run(choice, 100, 1, { alone: 1, together: 2 });
  expect(run(choice, 100, 512, { alone: 2, together: 1 }).together).toBeGreaterThan(90);
});
