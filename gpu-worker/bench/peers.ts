/** Peers: rivals that run in processes of their own, installed on first use from bench/peers' own lock file. */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { type Options, usage } from '../command-line.ts';
import type { PeerAnswer, PeerSetup, PeerTask } from './peer-protocol.ts';
import type { PeerOutcome } from './report.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const PEERS = join(ROOT, 'bench', 'peers');
/** Where rivals' model files and browsers are kept. */
export const PEER_CACHE = join(ROOT, '.nibble', 'bench');
/** To unpack a browser and write and load half a gigabyte on a slow disk; then, for one measurement of a slow rival. */
const READY_MS = 300_000;
const TASK_MS = 300_000;
const REASON_CHARACTERS = 300;

/** By the name of their program in bench/peers. */
const RIVALS = { model: ['node-llama-cpp', 'wllama'], gemv: ['onnxruntime-web'] };

/** The rivals that --peers and --rivals ask for, of those that can do a task. Throws `usage` for a name that is none of them. */
export function rivalsOf(options: Options, task: keyof typeof RIVALS): readonly string[] {
  const wanted = options.text('rivals');
  if (wanted === null) return options.on('peers') ? RIVALS[task] : [];
  if (!options.on('peers')) throw usage('--rivals goes with --peers');
  const names = wanted.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !RIVALS[task].includes(name));
  if (unknown !== undefined) throw usage(`--rivals: "${unknown}" is not one of ${RIVALS[task].join(', ')}`);
  return names;
}

/** null, or why they could not be installed. */
function installPeers(): string | null {
  if (existsSync(join(PEERS, 'node_modules', '.package-lock.json'))) return null;
  if (!existsSync(join(PEERS, 'package-lock.json'))) return 'bench/peers is not part of this installation';
  process.stderr.write('Installing the rivals (npm ci in bench/peers) …\n');
  // Optional packages are GPU builds of hundreds of megabytes; install scripts would compile what is prebuilt.
  const flags = ['ci', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = process.env.npm_execpath;
  const [program, args] = npm?.endsWith('.js') ? [process.execPath, [npm, ...flags]] : ['npm', flags];
  const { status, stderr, error } = spawnSync(program, args, {
    cwd: PEERS,
    encoding: 'utf8',
    stdio: ['ignore', 2, 'pipe'],
  });
  if (status === 0) return null;
  return `npm ci in bench/peers failed: ${shortened(error?.message ?? stderr ?? '')}`;
}

/** A rival that is loaded and waits for tasks. */
export class Peer {
  readonly name: string;
  readonly #child: ChildProcess;
  #stderr = '';
  #version = '';
  #weightBytes = 0;

  private constructor(name: string, setup: PeerSetup) {
    this.name = name;
    this.#child = fork(join(PEERS, `${name}.ts`), [JSON.stringify(setup)], {
      cwd: PEERS,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-4000);
    });
  }

  /** Starts and loads it. Rejects with the reason, and leaves no process, when that fails. */
  static async start(name: string, setup: PeerSetup): Promise<Peer> {
    const peer = new Peer(name, setup);
    try {
      const ready = await peer.#answer(READY_MS);
      if (ready.kind !== 'ready') throw new Error(ready.kind === 'failed' ? ready.reason : `said ${ready.kind} first`);
      peer.#version = ready.version;
      peer.#weightBytes = ready.weightBytes;
      return peer;
    } catch (error) {
      await peer.stop();
      throw error;
    }
  }

  get version(): string {
    return this.#version;
  }

  /** What a decoded token reads of weights. */
  get weightBytes(): number {
    return this.#weightBytes;
  }

  /** Rejects with the reason when it fails or dies. */
  async perSecond(task: PeerTask): Promise<number> {
    this.#child.send(task);
    const answer = await this.#answer(TASK_MS);
    if (answer.kind === 'rate') return answer.perSecond;
    throw new Error(answer.kind === 'failed' ? answer.reason : `said ${answer.kind} to a task`);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    // Its own end closes what it started; a browser is not left behind.
    if (this.#child.connected) this.#child.disconnect();
    const forced = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await ended;
    clearTimeout(forced);
  }

  #answer(timeoutMs: number): Promise<PeerAnswer> {
    const child = this.#child;
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        child.off('message', onMessage).off('exit', onExit);
      };
      const onMessage = (message: unknown) => {
        settle();
        resolve(message as PeerAnswer);
      };
      const onExit = (code: number | null, signal: string | null) => {
        settle();
        reject(new Error(`its process ended (${signal ?? `exit code ${code}`}): ${shortened(this.#stderr)}`));
      };
      const timer = setTimeout(() => {
        settle();
        child.kill('SIGKILL');
        reject(new Error(`no answer within ${timeoutMs / 1000} s`));
      }, timeoutMs);
      child.once('message', onMessage).once('exit', onExit);
    });
  }
}

/** Starts each in turn. Every name is either among the peers or among the outcomes with its reason. */
export async function startPeers(
  names: readonly string[],
  setup: PeerSetup,
): Promise<{ peers: Peer[]; missing: PeerOutcome[] }> {
  const uninstalled = names.length === 0 ? null : installPeers();
  const peers: Peer[] = [];
  const missing: PeerOutcome[] = [];
  for (const name of names) {
    try {
      if (uninstalled !== null) throw new Error(uninstalled);
      peers.push(await Peer.start(name, setup));
    } catch (error) {
      missing.push({ name, outcome: 'not_measured', reason: shortened((error as Error).message) });
    }
  }
  return { peers, missing };
}

/** An error's own line where the text has one, else its end. */
function shortened(text: string): string {
  const line = text.split('\n').findLast((each) => /^\s*(\w*Error|npm error)\b.*:? \S/.test(each)) ?? text;
  return line.replace(/\s+/g, ' ').trim().slice(-REASON_CHARACTERS) || 'no reason given';
}
