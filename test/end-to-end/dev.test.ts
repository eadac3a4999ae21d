import { execFile, execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nibble, RunningEdge } from './running-edge.ts';

let edge: RunningEdge;
beforeAll(async () => {
  edge = await RunningEdge.start();
});
afterAll(async () => {
  await edge?.stop();
});

function hasCurl(): boolean {
  try {
    execFileSync('curl', ['--version']);
    return true;
  } catch {
    return false;
  }
}

describe('nibble dev', () => {
  test.skipIf(!hasCurl())('prints a curl line that streams a story about Milo when it is pasted', async () => {
    const line = edge.output.split('\n').find((candidate) => candidate.startsWith('curl -N'))!;
    const { stdout } = await promisify(execFile)('sh', ['-c', line]);
    const events = stdout.split('\n').filter((event) => event.startsWith('data: '));
    expect(events.at(-1)).toBe('data: [DONE]');
    const chunks = events.slice(0, -1).map((event) => JSON.parse(event.slice('data: '.length)));
    const deltas = chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? '');
    expect(deltas.filter((delta) => delta !== '').length).toBeGreaterThan(50);
    expect(deltas.join('')).toMatch(/Milo/);
    expect(deltas.join('')).toMatch(/fox/);
    expect(chunks.at(-1).choices[0].finish_reason).toBe('stop');
  });

  test('the ledger row of a request equals the usage in its response', async () => {
    const response = await edge.post('/v1/chat/completions', {
      messages: [{ role: 'user', content: 'What is Nibble?' }],
      temperature: 0,
    });
    expect(response.status).toBe(200);
    const answer = await response.json();
    expect(answer.choices[0].message.content).toMatch(/quantized language models/);
    const row = await edge.usageOf(response.headers.get('x-request-id')!);
    expect(row).toMatchObject({
      model: edge.models[0],
      prompt_tokens: answer.usage.prompt_tokens,
      completion_tokens: answer.usage.completion_tokens,
      status: 'completed',
    });
    expect(row.cost_usd).toBeGreaterThan(0);
    expect(Number(response.headers.get('x-nibble-cost-usd'))).toBe(row.cost_usd);
    expect(response.headers.get('x-nibble-backend')).toBe('wasm');
  });

  test('a second one on the same port says that it is taken', async () => {
    const { port } = new URL(edge.url);
    const { code, stdout, stderr } = await nibble(['dev', '--port', port, '--state', join(tmpdir(), 'nibble-unused')]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toBe(`nibble dev: port ${port} is taken by another program; choose another with PORT=… or --port\n`);
  });

  test('stopping leaves no process behind', async () => {
    const tree = descendants(edge.processId);
    expect(tree.length).toBeGreaterThan(2);
    expect(await edge.stop()).toBe(0);
    await expect.poll(() => tree.filter(isAlive)).toEqual([]);
  });
});

describe('nibble dev --store s3', () => {
  test('the worker loads from the local S3, where the model was pushed, and tells its story', async () => {
    const stored = await RunningEdge.start(['--store', 's3']);
    try {
      expect(stored.output).toMatch(/^s3:\/\/nibble-weights\/nibble-demo: (\d+) bytes, \1 of them sent now$/m);
      const response = await stored.post('/v1/chat/completions', {
        messages: [{ role: 'user', content: 'What is Nibble?' }],
        temperature: 0,
      });
      const answer = await response.json();
      expect(answer.choices[0].message.content).toMatch(/quantized language models/);
    } finally {
      expect(await stored.stop()).toBe(0);
    }
  });
});

function descendants(root: number): number[] {
  const pairs = execFileSync('ps', ['-eo', 'pid=,ppid='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const found = [root];
  for (const parent of found) for (const [pid, ppid] of pairs) if (ppid === parent) found.push(pid!);
  return found;
}

/** A zombie has ended; only its parent has not asked yet. */
function isAlive(pid: number): boolean {
  try {
    return !execFileSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' })
      .trim()
      .startsWith('Z');
  } catch {
    return false;
  }
}
