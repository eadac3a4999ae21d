/** Run: the edge's bench as a program. Its parent gives the settings and gets what was measured; see gpu-worker/bench/edge-task.ts. */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import type { EdgeMeasured, EdgeSettings } from '../../gpu-worker/bench/edge-protocol.ts';
import type { Gateway } from './gateway.ts';
import { startLitellm } from './litellm.ts';
import { type NibbleGateway, startNibble } from './nibble.ts';
import { startPortkey } from './portkey.ts';
import { ask, MODEL, quantile, volley } from './traffic.ts';

const settings = JSON.parse(process.argv[2]!) as EdgeSettings;
const WARM_UP_MS = 1000;

/** What one gateway gave in all rounds. */
interface Seen {
  gateway: Gateway;
  requestsPerS: number[];
  streamsPerS: number[];
  firstTokenMs: number[];
  perTokenMs: number[];
  wholeMs: number[];
}

const running: { stop(): Promise<unknown> }[] = [];
try {
  process.send!(await measure());
} finally {
  for (const each of running.reverse()) await each.stop();
  process.disconnect?.();
}

async function measure(): Promise<EdgeMeasured> {
  mkdirSync(settings.cache, { recursive: true });
  const upstream = await startUpstream();
  const nibble = await startNibble({ state: join(settings.cache, 'edge') });
  running.push(nibble);
  const missing: EdgeMeasured['missing'] = [];
  const gateways: Gateway[] = [direct(upstream), nibble];
  for (const name of settings.rivals)
    try {
      const rival = name === 'litellm' ? await startLitellm(upstream, settings.cache) : await startPortkey(upstream);
      running.push(rival);
      gateways.push(rival);
    } catch (error) {
      missing.push({ name, reason: (error as Error).message });
    }
  const seen = await rounds(gateways, missing);
  const open = await openStreams(nibble);
  return { gateways: seen.map(summary), missing, open };
}

/** Each gateway in turn, round after round; the first does not count. One that fails a request is out. */
async function rounds(gateways: Gateway[], missing: EdgeMeasured['missing']): Promise<Seen[]> {
  const all = gateways.map(
    (gateway): Seen => ({ gateway, requestsPerS: [], streamsPerS: [], firstTokenMs: [], perTokenMs: [], wholeMs: [] }),
  );
  const { clients, tokens } = settings;
  for (let round = -1; round < settings.rounds; round++) {
    const ms = round < 0 ? WARM_UP_MS : settings.seconds * 1000;
    for (const one of all) {
      const { name, target } = one.gateway;
      if (missing.some((other) => other.name === name)) continue;
      try {
        const alone = await volley(target, { clients: 1, ms, tokens, stream: true });
        const plain = await volley(target, { clients, ms, tokens, stream: false });
        const streams = await volley(target, { clients, ms, tokens, stream: true });
        if (round < 0) continue;
        one.requestsPerS.push(plain.requestsPerS);
        one.streamsPerS.push(streams.requestsPerS);
        one.firstTokenMs.push(...alone.firstTokenMs);
        one.perTokenMs.push(...alone.perTokenMs);
        one.wholeMs.push(...alone.wholeMs);
      } catch (error) {
        if (name === 'direct' || name === 'nibble') throw error;
        missing.push({ name, reason: (error as Error).message });
      }
    }
  }
  return all.filter(({ gateway }) => !missing.some(({ name }) => name === gateway.name));
}

function summary({ gateway, ...seen }: Seen): EdgeMeasured['gateways'][number] {
  const both = (values: number[]) => ({ p50: quantile(values, 0.5), p99: quantile(values, 0.99) });
  return {
    name: gateway.name,
    version: gateway.version,
    note: gateway.note,
    requestsPerS: quantile(seen.requestsPerS, 0.5),
    streamsPerS: quantile(seen.streamsPerS, 0.5),
    firstTokenMs: both(seen.firstTokenMs),
    perTokenMs: both(seen.perTokenMs),
    wholeMs: both(seen.wholeMs),
    requests: seen.wholeMs.length,
    residentBytes: gateway.residentBytes(),
  };
}

/** So many streams that are open at once, each after its first token, and then all to their ends. */
async function openStreams(nibble: NibbleGateway): Promise<EdgeMeasured['open']> {
  if (settings.streams === 0) return null;
  const before = nibble.residentBytes();
  nibble.hold(true);
  let opened = 0;
  let allOpen = () => {};
  const waiting = new Promise<void>((resolve) => {
    allOpen = resolve;
  });
  const started = performance.now();
  const answers = Array.from({ length: settings.streams }, () =>
    ask(nibble.target, settings.tokens, true, () => {
      opened += 1;
      if (opened === settings.streams) allOpen();
    }),
  );
  // A stream that fails before its first token ends the wait.
  await Promise.race([waiting, Promise.all(answers)]);
  const openMs = performance.now() - started;
  const bytes = nibble.residentBytes() - before;
  nibble.hold(false);
  await Promise.all(answers);
  return { streams: settings.streams, openMs, bytes };
}

function direct(url: string): Gateway {
  const note = 'the model that answers at once, without a gateway';
  const target = { url, key: 'none', model: MODEL };
  return { name: 'direct', version: '', note, target, residentBytes: () => 0, stop: async () => {} };
}

function startUpstream(): Promise<string> {
  const child: ChildProcess = fork(join(import.meta.dirname, 'upstream.ts'), { stdio: ['ignore', 2, 2, 'ipc'] });
  running.push({ stop: async () => child.kill() });
  return new Promise((resolve, reject) => {
    child.once('message', ({ port }: { port: number }) => resolve(`http://127.0.0.1:${port}`));
    child.once('exit', (code) => reject(new Error(`the upstream ended with ${code}`)));
  });
}
