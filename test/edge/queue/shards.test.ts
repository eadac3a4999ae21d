/** Shards: a model's jobs spread over its queues by what they said of their load. */
import { expect, test } from 'vitest';
import { uniform } from '../../../core/engine/random.ts';
import { chooseShard, Loads } from '../../../edge/queue/shards.ts';
import { jobRequest, newAccount, newModel, queueOf, submit } from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';

test('of two random shards the less loaded one is taken, and any two may meet', () => {
  let draw = 0;
  const random = () => uniform(3, draw++);
  expect(chooseShard(1, () => 9, random)).toBe(0);
  expect(draw).toBe(0);
  for (const shards of [2, 3, 7]) {
    const counts = Array(shards).fill(0);
    for (let times = 0; times < 7000; times++) counts[chooseShard(shards, () => 0, random)] += 1;
    for (const count of counts) expect(count).toBeGreaterThan(7000 / shards / 1.2);
    const loaded = Array(shards).fill(0);
    for (let times = 0; times < 1000; times++) loaded[chooseShard(shards, (shard) => shard, random)] += 1;
    // The most loaded one loses against whichever it meets.
    expect(loaded[shards - 1]).toBe(0);
    expect(loaded[0]).toBeGreaterThan(1000 / shards);
  }
});

test('chosen by what was said last, jobs spread as evenly as they come', () => {
  let draw = 0;
  const random = () => uniform(4, draw++);
  const loads = new Loads();
  const lengths = Array(8).fill(0);
  for (let job = 0; job < 4000; job++) {
    const shard = chooseShard(8, (other) => loads.of(`m#${other}`, job), random);
    lengths[shard] += 1;
    loads.note(`m#${shard}`, lengths[shard], job);
  }
  expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThan(10);
});

test('what was said is forgotten after ten seconds, and memory is bounded', () => {
  const loads = new Loads();
  loads.note('m#0', 5, 0);
  expect([loads.of('m#0', 10_000), loads.of('m#0', 10_001), loads.of('m#1', 0)]).toEqual([5, 0, 0]);
  for (let other = 0; other < 1000; other++) loads.note(`n#${other}`, 1, 0);
  expect(loads.of('m#0', 0)).toBe(0);
});

test('a queue says its load with its answer: jobs that wait, less places that are free', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model, { credits: 2 });
  const loads: (string | null)[] = [];
  for (let jobs = 0; jobs < 4; jobs++) {
    const submission = await submit(account, jobRequest(model));
    const again = await queueOf(model).fetch('https://queue/jobs', {
      method: 'POST',
      body: JSON.stringify({ grant: { jobId: submission.jobId }, job: {}, fallback: 'never' }),
    });
    loads.push(again.headers.get('x-nibble-load'));
    await again.body?.cancel();
  }
  expect(loads).toEqual(['-1', '0', '1', '2']);
  worker.close();
});

test('credits that are lowered are answered, and no lease goes beyond them; demand is told', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model, { credits: 2 });
  worker.send({ type: 'credits', credits: 1 });
  expect(await worker.next('credits')).toEqual({ type: 'credits', credits: 1 });
  await Promise.all(Array.from({ length: 3 }, () => submit(account, jobRequest(model))));
  const first = await worker.next('lease');
  expect((await worker.next('demand')).waiting).toBeGreaterThan(0);
  worker.start(first);
  worker.finish(first, 0);
  await worker.next('lease');
  worker.send({ type: 'credits', credits: 2 });
  await worker.next('lease');
  for (;;) if ((await worker.next('demand')).waiting === 0) break;
});
