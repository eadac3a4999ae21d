/** Isolate memory: models of one isolate share its limit; idle ones make room, busy ones do not. */
import { expect, test } from 'vitest';
import { moveIn, moveOut } from '../../../edge/fallback/isolate-memory.ts';

const occupant = (idle: boolean) => ({
  asked: 0,
  leave() {
    this.asked += 1;
    return idle;
  },
});

test('an idle model leaves for another one, and only when there is no room beside it', () => {
  const [idle, next, third] = [occupant(true), occupant(true), occupant(true)];
  moveIn('a', 50, idle, 100);
  moveIn('b', 50, next, 100);
  expect(idle.asked).toBe(0);
  moveIn('c', 50, third, 100);
  expect([idle.asked, next.asked]).toEqual([1, 0]);
  for (const model of ['b', 'c']) moveOut(model);
});

test('a model that answers stays, and the newcomer is told with the numbers', () => {
  const busy = occupant(false);
  moveIn('busy', 60, busy, 100);
  expect(() => moveIn('late', 50, occupant(true), 100)).toThrow(
    'late: memory: needs 50 bytes beside 60 of busy, answering in the same isolate, which has 100',
  );
  expect(busy.asked).toBe(1);
  // A new instance of the same model's object takes the place of the one that was ended.
  moveIn('busy', 60, occupant(false), 100);
  moveOut('busy');
  moveIn('late', 50, occupant(true), 100);
  moveOut('late');
});
