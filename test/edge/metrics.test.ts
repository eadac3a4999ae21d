/** Metrics: what /metrics says while jobs wait and run. */
import { expect, test } from 'vitest';
import { ADMIN_KEY, call, jobRequest, newAccount, newModel, submit } from './edge-under-test.ts';
import { ScriptedWorker } from './scripted-worker.ts';

test('the load of a model: jobs that wait, jobs that run, workers and their room', async () => {
  const account = await newAccount();
  const model = newModel({ id: 'org/model "x"' });
  const load = async () => {
    const response = await call('GET', '/metrics', ADMIN_KEY);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0.0.4/);
    const text = await response.text();
    expect(text).toContain('# TYPE nibble_queue_jobs gauge\n');
    return ['queue_jobs', 'queue_waiting', 'queue_running', 'workers', 'worker_free_slots'].map((name) => {
      const line = text.split('\n').find((one) => one.startsWith(`nibble_${name}{model="org/model \\"x\\""} `));
      return Number(line!.split(' ').at(-1));
    });
  };
  const worker = await ScriptedWorker.connect(account.workerToken, model, { credits: 2 });
  expect(await load()).toEqual([0, 0, 0, 1, 2]);
  const jobs = [];
  for (let i = 0; i < 3; i++) jobs.push(await submit(account, jobRequest(model)));
  expect(await load()).toEqual([3, 1, 2, 1, 0]);
  worker.close();
  for (const job of jobs) await job.events.cancel();
});
