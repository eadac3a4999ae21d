/// <reference types="node" />
/** Thread: what one worker thread of a team does: its part of each task, until it is told to end. */
import { parentPort, workerData } from 'node:worker_threads';
import { instantiateKernels, kernelOrder } from './kernels.ts';
import { TASK_BYTES } from './team.ts';
import { CONTROL_ADDRESS, END, FAILED_ADDRESS, kernelOf, setAddress, type ThreadData } from './threads.ts';

/** Long beside what lies between two tasks of a step: a thread that slept can take some 100 µs to come back, as long as five tasks of a decode. */
const SPINS = 1 << 20;

const { module, memory, part, parts } = workerData as ThreadData;
const kernels = instantiateKernels(module, memory);
const order = kernelOrder(kernels);
// Shared memory keeps its first bytes in this buffer when it grows.
const words = new Int32Array(memory.buffer);

parentPort!.postMessage('ready');
work();

function work(): void {
  for (let seen = 0; ; ) {
    seen = kernels.await_task(CONTROL_ADDRESS, part, seen, SPINS);
    for (let task = setAddress(seen), isFollowed = true; isFollowed; task += TASK_BYTES) {
      const lastWord = words[(task + TASK_BYTES) / 4 - 1]!;
      if (lastWord === END) return;
      const kernel = kernelOf(lastWord);
      runPart(kernel.index, task);
      isFollowed = kernel.isFollowed;
    }
  }
}

function runPart(kernel: number, task: number): void {
  try {
    kernels[order[kernel]!](task, part, parts);
  } catch (error) {
    // The others wait for this part: let them, and say so.
    Atomics.store(words, FAILED_ADDRESS / 4, 1);
    parentPort!.postMessage(String(error));
  }
}
