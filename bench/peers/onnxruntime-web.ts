/** onnxruntime-web: one int4 product of a vector, MatMulNBits on its WebAssembly backend, in Node. */
import { matMulNBits } from './onnx.ts';
import { servePeer } from './peer.ts';

/** As much of the package as is used; it is installed on first use, so its own types may be missing. */
interface Package {
  env: { wasm: { numThreads: number }; logLevel: string };
  InferenceSession: {
    create(
      model: Uint8Array,
      options: object,
    ): Promise<{
      run(feeds: Record<string, unknown>): Promise<Record<string, { data: Float32Array }>>;
      release(): Promise<void>;
    }>;
  };
  Tensor: new (type: 'float32', values: Float32Array, shape: number[]) => unknown;
}

const PACKAGE: string = 'onnxruntime-web';
const SHAPE = { out: 2048, in: 2048, bits: 4, blockSize: 32 };
const MEASURE_MS = 1000;

await servePeer(async ({ threads }) => {
  const ort = (await import(PACKAGE)) as Package;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = 'error';
  const session = await ort.InferenceSession.create(matMulNBits(SHAPE), { executionProviders: ['wasm'] });
  const values = Float32Array.from({ length: SHAPE.in }, (_, i) => Math.sin(i));
  const feeds = { x: new ort.Tensor('float32', values, [1, SHAPE.in]) };
  return {
    version: `onnxruntime-web 1.30.0, MatMulNBits, ${threads} thread${threads === 1 ? '' : 's'}`,
    // 4 bits and an f32 scale in 32.
    weightBytes: (SHAPE.out * SHAPE.in * (4 + 1)) / 8,
    async run(task) {
      if (task.kind !== 'gemv') throw new Error(`there is no ${task.kind} here`);
      const started = performance.now();
      let products = 0;
      for (; performance.now() - started < MEASURE_MS; products++) {
        const { y } = await session.run(feeds);
        if (!Number.isFinite(y!.data[0]!)) throw new Error('the product is not a number');
      }
      return (products * 1000) / (performance.now() - started);
    },
    close: () => session.release(),
  };
});
