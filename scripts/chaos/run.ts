/** Run: one chaos run from an empty edge to its verdict. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { type LedgerRow, readBooks, readJournals } from '../../gpu-worker/books.ts';
import type { Received } from './answer.ts';
import { Balances, balancesOf } from './balances.ts';
import { Client, type Outcome } from './client.ts';
import { Collector } from './collector.ts';
import { Edge } from './edge.ts';
import { Faults } from './faults.ts';
import { Pool } from './pool.ts';
import { askedOf, type Script, scriptsOf } from './requests.ts';
import { type Verdict, verdictOf } from './verdict.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const MODEL = join(ROOT, 'models', 'demo', 'gptq-int4');
const SERVED_NAME = 'nibble-demo';
const CREDIT_USD = '1000';
const LIMITS = { requests_per_min: 1_000_000, tokens_per_min: 1_000_000_000, concurrency: 10_000 };
/** A grant of half a minute, the ledger's question a minute later, the export's ten seconds; twice over, on a busy machine. */
const CALM_MS = 240_000;
const MAX_WAVES = 20;
const MIN_WAVE = 50;

export interface RunOptions {
  requests: number;
  seed: number;
  /** Distinct requests among them. */
  scripts: number;
  concurrency: number;
  workers: number;
  slots: number;
  accounts: number;
  /** Queue objects of the model. */
  shards: number;
  /** Requests to a fault, on average. */
  faultEvery: number;
  /** After so long no more requests begin. */
  minutes: number;
  folder: string;
  log: (line: string) => void;
}

export type RunResult = Verdict & {
  requests: number;
  distinct_requests: number;
  faults: Record<string, number>;
  fault_errors: string[];
  seconds: { undisturbed: number; chaos: number; calm: number };
};

export async function run(options: RunOptions): Promise<RunResult> {
  const { requests, seed, concurrency, folder, log } = options;
  const edge = await Edge.start(folder, {
    DEFAULT_MODEL: SERVED_NAME,
    QUEUE_DEPTH: '10000',
    QUEUE_SHARDS: String(options.shards),
  });
  log(`the edge is at ${edge.url}; everything is kept in ${folder}`);
  let pool: Pool | null = null;
  try {
    const operator = await openAccount(edge, 'operator');
    const { key: token } = await newKey(edge, operator, ['worker']);
    pool = await Pool.start({
      ...{ edgeUrl: edge.url, token, model: MODEL, servedName: SERVED_NAME, folder },
      ...{ size: options.workers, slots: options.slots },
    });
    const scripts = scriptsOf(seed, Math.min(options.scripts, requests), SERVED_NAME);
    const calmClient = await newClient(edge, operator);
    let startedMs = performance.now();
    const undisturbed = await undisturbedAnswers(calmClient, scripts, concurrency);
    const undisturbedS = (performance.now() - startedMs) / 1000;
    log(`${scripts.length} distinct requests answered with nothing broken in ${undisturbedS.toFixed(1)} s`);

    const accounts = await Promise.all(
      Array.from({ length: options.accounts }, (_, at) => openAccount(edge, `a${at}`)),
    );
    const clients = await Promise.all(accounts.map((account) => newClient(edge, account)));
    const collector = new Collector(edge.ask, [SERVED_NAME]);
    const queues = Array.from({ length: options.shards }, (_, shard) => `${SERVED_NAME}#${shard}`);
    const faults = new Faults({ edge, pool, accounts, queues }, seed, options.faultEvery);
    const balances = new Balances(edge, accounts);
    startedMs = performance.now();
    collector.start();
    balances.start();
    const asked = askedOf(seed, requests, scripts);
    const outcomes: Outcome[] = [];
    let begun = 0;
    for (const wave of wavesOf(asked)) {
      if (performance.now() - startedMs > 60_000 * options.minutes) break;
      begun += wave.length;
      await inParallel(wave, concurrency, async (one) => {
        const client = clients[one.index % clients.length]!;
        faults.begun();
        outcomes.push(...(await client.run(one, scripts[one.script]!)));
      });
      log(`${outcomes.length} answers after ${((performance.now() - startedMs) / 1000).toFixed(0)} s`);
      await faults.evictQueues();
    }
    await faults.settled();
    const chaosS = (performance.now() - startedMs) / 1000;
    log(`all clients are done after ${chaosS.toFixed(1)} s; waiting for calm`);
    startedMs = performance.now();
    await calm(edge);
    const calmS = (performance.now() - startedMs) / 1000;
    await collector.stop();
    await balances.stop();
    const queue = await collector.all();
    const lastBalances = await balancesOf(edge, accounts);
    const { ledger, exported, reserved } = await readBooks(edge.ask, []);
    await pool.stop();
    const books = {
      ...{ ledger: ledger as LedgerRow[], exported, reserved, queue },
      journal: await readJournals(pool.journals),
    };
    await writeFile(join(folder, 'outcomes.json'), JSON.stringify({ scripts, undisturbed, outcomes }));
    const evidence = { outcomes, undisturbed, books, balances: balances.seen, lastBalances };
    return {
      requests: begun,
      distinct_requests: scripts.length,
      ...verdictOf(evidence),
      faults: faults.counts,
      fault_errors: faults.errors.slice(0, 20),
      seconds: { undisturbed: round(undisturbedS), chaos: round(chaosS), calm: round(calmS) },
    };
  } finally {
    await pool?.stop();
    await edge.stop();
  }
}

/** Every distinct request once, with nothing broken. All of them must finish. */
async function undisturbedAnswers(
  client: Client,
  scripts: readonly Script[],
  concurrency: number,
): Promise<Received[]> {
  const answers: Received[] = [];
  await inParallel([...scripts.entries()], concurrency, async ([index, script]) => {
    const asked = { index, script: index, behaviour: { kind: 'stay' as const }, key: '' };
    const [outcome] = await client.run(asked, script);
    const { received } = outcome!.tries.at(-1)!;
    if (outcome!.tries.length > 1 || received.end.kind !== 'finished')
      throw new Error(
        `with nothing broken, request ${index} ended with ${JSON.stringify(outcome!.tries[0]!.received.end)}`,
      );
    answers[index] = received;
  });
  return answers;
}

/** Resolves when no job lives, nothing is reserved and everything is exported, or when that does not come in time. */
async function calm(edge: Edge): Promise<void> {
  for (const deadline = performance.now() + CALM_MS; performance.now() < deadline; ) {
    const { ledger, exported, reserved, queue } = await readBooks(edge.ask, []);
    const lives = queue.some(({ billed }) => billed === null);
    if (reserved.size === 0 && !lives && exported.length === ledger.length) return;
    await wait(1000);
  }
}

/** Between two waves nobody asks for anything for a moment. */
function wavesOf<Item>(items: readonly Item[]): Item[][] {
  const size = Math.max(MIN_WAVE, Math.ceil(items.length / MAX_WAVES));
  return Array.from({ length: Math.ceil(items.length / size) }, (_, at) => items.slice(at * size, (at + 1) * size));
}

async function openAccount(edge: Edge, name: string): Promise<string> {
  return (await edge.post<{ id: string }>('/accounts', { name, credit_usd: CREDIT_USD, limits: LIMITS })).id;
}

function newKey(edge: Edge, account: string, scopes: string[]): Promise<{ key: string }> {
  return edge.post(`/accounts/${account}/keys`, { scopes });
}

async function newClient(edge: Edge, account: string): Promise<Client> {
  return new Client(edge.url, (await newKey(edge, account, ['client'])).key);
}

async function inParallel<Item>(items: readonly Item[], width: number, work: (item: Item) => Promise<void>) {
  let next = 0;
  const lane = async () => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: width }, lane));
}

const round = (seconds: number) => Math.round(seconds * 10) / 10;
