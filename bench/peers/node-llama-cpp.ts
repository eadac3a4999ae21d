/** node-llama-cpp: native llama.cpp with this CPU's instructions, Q4_0, f16 keys and values. */
import { ensureGguf } from './gguf.ts';
import { promptIds, servePeer } from './peer.ts';

/** As much of the package as is used; it is installed on first use, so its own types may be missing. */
interface Package {
  getLlama(options: object): Promise<{
    loadModel(options: { modelPath: string }): Promise<{ createContext(options: object): Promise<Context> }>;
    dispose(): Promise<void>;
  }>;
  LlamaLogLevel: { error: string };
}
interface Context {
  getSequence(): Sequence;
}
interface Sequence {
  evaluate(ids: number[], options: { temperature: number; yieldEogToken?: boolean }): AsyncIterable<number>;
  dispose(): void;
}

const PACKAGE: string = 'node-llama-cpp';

await servePeer(async ({ shape, threads, contextTokens, cacheDirectory }) => {
  const { getLlama, LlamaLogLevel } = (await import(PACKAGE)) as Package;
  const { path, weightBytes } = ensureGguf(shape, cacheDirectory);
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: LlamaLogLevel.error });
  const model = await llama.loadModel({ modelPath: path });
  const context = await model.createContext({
    contextSize: contextTokens + 8,
    batchSize: Math.min(512, contextTokens + 8),
    threads,
    sequences: 1,
  });
  let runs = 0;

  /** Tokens a second of `steps` tokens after the first one, or of the prompt when there are none. */
  const measure = async (promptTokens: number, steps: number): Promise<number> => {
    const sequence = context.getSequence();
    try {
      // Another prompt each time, so that nothing is left in a cache.
      const ids = promptIds(promptTokens, shape.vocab, runs++);
      let started = performance.now();
      let made = 0;
      for await (const _ of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
        if (steps === 0) return (promptTokens * 1000) / (performance.now() - started);
        if (made === 0) started = performance.now();
        if (++made > steps) break;
      }
      if (made <= steps) throw new Error(`the answer ended after ${made} tokens`);
      return (steps * 1000) / (performance.now() - started);
    } finally {
      sequence.dispose();
    }
  };

  return {
    version: `node-llama-cpp 3.22.1, Q4_0, ${threads} thread${threads === 1 ? '' : 's'}`,
    weightBytes,
    async run(task) {
      if (task.kind === 'decode') return measure(Math.max(1, task.context), task.steps);
      if (task.kind === 'prefill') return measure(task.tokens, 0);
      throw new Error(`there is no ${task.kind} here`);
    },
    close: () => llama.dispose(),
  };
});
