/** Orphan: a worker whose launcher is gone does not stay, whenever that happened. */
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DEMO } from './running-edge.ts';

const CLI = join(import.meta.dirname, '..', '..', 'gpu-worker', 'cli.ts');

test('a launcher that goes while its worker loads the model takes the worker with it', async () => {
  const worker = fork(CLI, ['serve', '--model-id', DEMO, '--edge', 'http://127.0.0.1:1', '--token', 'x'], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const exited = new Promise<number | null>((resolve) => worker.once('exit', resolve));
  worker.disconnect();
  expect(await exited).toBe(0);
});
