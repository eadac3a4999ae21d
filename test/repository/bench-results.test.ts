import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { drawPlot, PLOT_FILE } from '../../bench/plot.ts';
import type { Recorded } from '../../bench/recorded.ts';
import { holds } from '../../scripts/chaos/verdict.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const RESULTS = join(ROOT, 'bench', 'results');
const all = await readdir(RESULTS);
const files = all.filter((file) => !file.startsWith('chaos-'));
const chaosFiles = all.filter((file) => file.startsWith('chaos-'));

async function recordedIn(file: string): Promise<Recorded> {
  return JSON.parse(await readFile(join(RESULTS, file), 'utf8')) as Recorded;
}

describe.each(files)('bench/results/%s', (file) => {
  test('names machine, day, device and commit, and every run the command that repeats it', async () => {
    const { machine, measured, runs } = await recordedIn(file);
    expect(`${machine}.json`).toBe(file);
    expect(measured).toMatch(/^\d{4}-\d\d-\d\d$/);
    expect(runs.length).toBeGreaterThan(0);
    for (const { command, report } of runs) {
      expect(command.startsWith(`${report.task} `)).toBe(true);
      expect(report.device).not.toBe('');
      expect(report.commit).toMatch(/^[0-9a-f]{12}/);
      for (const { name, value, unit } of report.results) {
        expect(Number.isFinite(value), name).toBe(true);
        expect(unit, name).not.toBe('');
      }
      const asked = command.includes('--peers');
      expect(report.peers.length > 0, command).toBe(asked);
      for (const peer of report.peers) expect(peer.name in report.ratios).toBe(peer.outcome === 'measured');
    }
  });
});

test.each(chaosFiles)(
  'bench/results/%s: the run passed or its document says why not; it names machine and commit',
  async (file) => {
    const run = JSON.parse(await readFile(join(RESULTS, file), 'utf8'));
    expect(run.device).not.toBe('');
    expect(run.commit).toMatch(/^[0-9a-f]{12}$/);
    expect(run.measured).toMatch(/^\d{4}-\d\d-\d\d$/);
    expect(run.ok).toBe(run.wrong.length === 0);
    expect(holds(run)).toBe(run.ok);
    for (const [fault, count] of Object.entries(run.faults)) expect(count, fault).toBeGreaterThan(0);
    const docs = await readFile(join(ROOT, 'docs', 'chaos.md'), 'utf8');
    expect(docs).toContain(file);
    for (const sentence of run.wrong) expect(docs).toContain(sentence);
  },
);

test('the plot in docs is what one of the recorded results gives', async () => {
  const plot = await readFile(join(ROOT, PLOT_FILE), 'utf8');
  const plots = await Promise.all(files.map(async (file) => drawPlot(await recordedIn(file))));
  expect(plots).toContain(plot);
});
