/** YoungMemory: gives the memory of blocks that were read and copied back soon, and not when the collector gets around to it. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Loading makes little other garbage, so that V8 sees no reason to look at a handful of small objects with 100 MB behind them. */
const COLLECT_EVERY_BYTES = 16 << 20;

let collectYoung: (() => void) | null = null;
let bytesSince = 0;

/** To be told of every large block that will not be needed for long. A collection of the young generation takes about a millisecond. */
export function countYoungBytes(bytes: number): void {
  bytesSince += bytes;
  if (bytesSince < COLLECT_EVERY_BYTES) return;
  bytesSince = 0;
  collectYoung ??= makeCollector();
  collectYoung();
}

function makeCollector(): () => void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: { type: 'minor' }) => void;
  return () => collect({ type: 'minor' });
}
