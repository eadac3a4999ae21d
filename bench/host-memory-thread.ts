/** HostMemoryThread: looks at the process's memory about every millisecond and keeps the most that is not the device's. */
import { parentPort, workerData } from 'node:worker_threads';
import { residentKib, WORDS } from './host-memory.ts';

const words = workerData as Int32Array;
const PERIOD_MS = 1;

parentPort!.postMessage('ready');
while (Atomics.load(words, WORDS.stopped) === 0) {
  const turn = Atomics.load(words, WORDS.turn);
  const kib = residentKib() - Atomics.load(words, WORDS.device);
  const isSettled = turn % 2 === 0 && turn === Atomics.load(words, WORDS.turn);
  if (isSettled && kib > Atomics.load(words, WORDS.peak)) Atomics.store(words, WORDS.peak, kib);
  Atomics.wait(words, WORDS.stopped, 0, PERIOD_MS);
}
