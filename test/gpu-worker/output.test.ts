/** Where results cannot be put: one sentence with the place and the system's reason, and no stack. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { writeOutput } from '../../gpu-worker/output.ts';
import { nibble } from '../end-to-end/running-edge.ts';
import { HubServer } from './hub-server.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nibble-output-'));
  await writeFile(join(directory, 'file'), '');
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test.each(['file', 'directory'] as const)('a %s below what is no directory', async (kind) => {
  const out = join(directory, 'file', 'out');
  await expect(writeOutput(out, { kind, force: false, source: 'elsewhere' }, async () => {})).rejects.toThrow(
    new RegExp(`^${out}: cannot be written: (ENOTDIR|EEXIST)$`),
  );
});

test('a cache of the Hub below what is no directory', async () => {
  const hub = await HubServer.start();
  try {
    hub.models.set('org/demo', new Map([['config.json', Buffer.from('{}')]]));
    const cache = join(directory, 'file', 'cache');
    const args = ['inspect', 'org/demo', '--huggingface-hub-cache', cache];
    const { code, stderr } = await nibble(args, { HF_ENDPOINT: hub.url });
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^nibble inspect: .*\/file\/cache.*: cannot be used: ENOTDIR \(mkdir\)\n$/),
    ]);
  } finally {
    await hub.close();
  }
});
