/** KernelCases: the ops of a model's step, each at decode and prefill sizes, with the bytes and operations that it cannot do without. */
import { makeBatch } from '../../core/engine/batch.ts';
import { PAGE_TOKENS } from '../../core/engine/engine.ts';
import {
  type Activation,
  type Backend,
  type Batch,
  type KvDtype,
  kvBytesPerToken,
  type Linear,
} from '../../core/model/backend.ts';
import type { KernelCase } from './kernel-clock.ts';
import { RandomWords } from './random-words.ts';
import { layerMatrices, type MatrixShape, type ModelShape } from './shape.ts';
import { formatLabel, randomWeight, type WeightFormat } from './weight-format.ts';

/** The last caches of CPUs here have 32 MB, of an H100 50 MB: some times that and what is read again comes from memory. */
const COLD_BYTES = { wasm: 256 * 2 ** 20, reference: 1, webgpu: 256 * 2 ** 20, cuda: 256 * 2 ** 20 };
/** A matrix so small that more of it would be needed is in a cache in real models too. */
const MAX_COPIES = 1024;
/** Rows of the tables that inputs are looked up in. */
const INPUT_ROWS = 64;

export interface NamedCase extends KernelCase {
  name: string;
  /** Bytes that one op reads and writes at least. */
  bytes: number;
  /** Multiplications and additions of its products. */
  operations: number;
}

export interface KernelSizes {
  shape: ModelShape;
  format: WeightFormat;
  head: WeightFormat;
  /** Rows of decode steps. */
  batches: readonly number[];
  promptTokens: number;
  /** Tokens that each decoded sequence attends to. */
  context: number;
  /** Of the pages. */
  kvDtype: KvDtype;
  seed: number;
}

/** A backend with what its cases need. The key/value pages are allocated at once. */
export class KernelCases {
  readonly #backend: Backend;
  readonly #sizes: KernelSizes;
  readonly #random: RandomWords;
  readonly #tables = new Map<number, Linear>();

  constructor(backend: Backend, sizes: KernelSizes) {
    this.#backend = backend;
    this.#sizes = sizes;
    this.#random = new RandomWords(sizes.seed);
    const { shape, batches, context, promptTokens } = sizes;
    const decodePages = Math.max(...batches) * Math.ceil(context / PAGE_TOKENS);
    const pages = Math.max(decodePages, Math.ceil(promptTokens / PAGE_TOKENS));
    const { layers, heads, kvHeads, hidden } = shape;
    const pageShape = { headDim: hidden / heads, pages, pageTokens: PAGE_TOKENS, dtype: sizes.kvDtype };
    backend.allocateKv({ layers, kvHeads, ...pageShape });
  }

  /** Cases of each different matrix, loaded as it is asked for, often enough that no cache holds it. */
  async *matrices(): AsyncGenerator<NamedCase[]> {
    const { shape, format, head } = this.#sizes;
    const seen = new Map<string, MatrixShape & { format: WeightFormat }>();
    const all = [
      ...layerMatrices(shape).map((matrix) => ({ ...matrix, format })),
      { name: 'head', out: shape.vocab, in: shape.hidden, format: head },
    ];
    for (const matrix of all) {
      const key = `${formatLabel(matrix.format)} ${matrix.out} ${matrix.in}`;
      const known = seen.get(key);
      seen.set(key, known === undefined ? matrix : { ...known, name: `${known.name},${matrix.name}` });
    }
    for (const matrix of seen.values()) yield this.#matrixCases(matrix, matrix.format);
  }

  async #matrixCases(matrix: MatrixShape, format: WeightFormat): Promise<NamedCase[]> {
    const copies = await this.#copies(matrix, format);
    const rows = [...this.#sizes.batches, ...(matrix.name === 'head' ? [] : [this.#sizes.promptTokens])];
    await this.#table(matrix.in);
    return rows.map((count) => ({
      name: `linear ${formatLabel(format)} ${matrix.name} ${count}x${matrix.in} -> ${matrix.out}`,
      batch: count === this.#sizes.promptTokens ? this.#prefillBatch() : this.#decodeBatch(count),
      prepare: () => [this.#input(matrix.in, count)],
      run: ([x], turn) => this.#backend.linear(x!, copies[turn % copies.length]!),
      resultBytes: count * matrix.out * 4,
      bytes: copies[0]!.bytes + count * (matrix.in + matrix.out) * 4,
      operations: 2 * count * matrix.in * matrix.out,
    }));
  }

  async #copies(matrix: MatrixShape, format: WeightFormat): Promise<Linear[]> {
    const weight = randomWeight(format, matrix, this.#random);
    const first = await this.#backend.loadLinear(weight, matrix.name);
    const copies = [first];
    const count = Math.min(MAX_COPIES, Math.ceil(COLD_BYTES[this.#backend.name] / first.bytes));
    while (copies.length < count) copies.push(await this.#backend.loadLinear(weight, matrix.name));
    return copies;
  }

  /** Norms, gating, rotation, attention and the choice of a token. */
  async rowOps(): Promise<NamedCase[]> {
    const { batches, promptTokens, shape } = this.#sizes;
    const { hidden, heads, kvHeads, ffn, vocab } = shape;
    const kvWidth = (hidden / heads) * kvHeads;
    for (const width of new Set([hidden, kvWidth, ffn, vocab])) await this.#table(width);
    const cases = [...batches.map((rows) => this.#rowCases(rows, 'decode')), this.#rowCases(promptTokens, 'prefill')];
    return cases.flat();
  }

  #rowCases(rows: number, kind: 'decode' | 'prefill'): NamedCase[] {
    const backend = this.#backend;
    const { hidden, heads, kvHeads, ffn, layers, vocab } = this.#sizes.shape;
    const headDim = hidden / heads;
    const kvWidth = headDim * kvHeads;
    const batch = kind === 'decode' ? this.#decodeBatch(rows) : this.#prefillBatch();
    const norm = backend.loadVector(this.#random.uniform(hidden, 0.9, 1.1), 'norm');
    const halfTurn = new Float32Array((rows * headDim) / 2).fill(Math.SQRT1_2);
    const kvBytes = kvBytesPerToken({ layers: 1, kvHeads, headDim, dtype: this.#sizes.kvDtype });
    const options = { heads, scale: 1 / Math.sqrt(headDim), window: null, softcap: null, alibiSlopes: null };
    const seen = kind === 'decode' ? rows * this.#sizes.context : rows;
    // A decoded token meets its whole context, a prompt's on average half of it.
    const pairs = kind === 'decode' ? seen : (rows * (rows + 1)) / 2;
    const plain = { batch, operations: 0 };
    const cases: NamedCase[] = [
      {
        ...plain,
        name: `add_rms_norm ${rows}x${hidden}`,
        prepare: () => [this.#input(hidden, rows), this.#input(hidden, rows)],
        run: ([residual, x]) => backend.addRmsNorm(residual!, x!, norm, 1e-5),
        resultBytes: rows * hidden * 4,
        bytes: 4 * rows * hidden * 4,
      },
      {
        ...plain,
        name: `gated silu ${rows}x${ffn}`,
        prepare: () => [this.#input(ffn, rows), this.#input(ffn, rows)],
        run: ([gate, up]) => backend.gated('silu', gate!, up!),
        resultBytes: rows * ffn * 4,
        bytes: 3 * rows * ffn * 4,
      },
      {
        ...plain,
        name: `rope_kv ${rows}x${hidden}+2x${kvWidth}`,
        prepare: () => [this.#input(hidden, rows), this.#input(kvWidth, rows), this.#input(kvWidth, rows)],
        run: ([q, k, v], turn) => {
          const rope = backend.rope(halfTurn, halfTurn, headDim);
          backend.ropeKv(turn % layers, q!, k!, v!, rope);
          return q!;
        },
        resultBytes: rows * headDim * 4,
        bytes: rows * (2 * hidden + 2 * kvWidth) * 4 + rows * kvBytes,
      },
      {
        ...plain,
        name: `attention ${kind} ${rows} tokens, ${kind === 'decode' ? `${this.#sizes.context} before each` : 'causal'}`,
        prepare: () => [this.#input(hidden, rows)],
        run: ([q], turn) => backend.attention(turn % layers, q!, options),
        resultBytes: rows * hidden * 4,
        bytes: seen * kvBytes + 2 * rows * hidden * 4,
        operations: 4 * pairs * hidden,
      },
    ];
    if (kind === 'prefill') return cases;
    return [
      ...cases,
      {
        ...plain,
        name: `embed ${rows}x${hidden} f32`,
        prepare: () => [this.#input(hidden, rows)],
        run: () => this.#input(hidden, rows),
        resultBytes: rows * hidden * 4,
        bytes: 2 * rows * hidden * 4,
      },
      {
        ...plain,
        name: `top ${rows}x${vocab}`,
        prepare: () => [this.#input(vocab, rows)],
        run: async ([logits]) => {
          await backend.top(logits!, 1, new Float32Array(rows));
          return logits!;
        },
        resultBytes: 0,
        bytes: rows * vocab * 4,
      },
    ];
  }

  /** [rows, cols] */
  #input(cols: number, rows: number): Activation {
    const ids = Int32Array.from({ length: rows }, (_, row) => row % INPUT_ROWS);
    return this.#backend.embed(this.#tables.get(cols)!, ids, 1);
  }

  async #table(cols: number): Promise<void> {
    if (this.#tables.has(cols)) return;
    const bytes = new Uint8Array(this.#random.uniform(INPUT_ROWS * cols, -1, 1).buffer);
    const table = {
      kind: 'dense',
      outFeatures: INPUT_ROWS,
      inFeatures: cols,
      dtype: 'f32',
      bytes,
      bias: null,
    } as const;
    this.#tables.set(cols, await this.#backend.loadLinear(table, 'input'));
  }

  #decodeBatch(rows: number): Batch {
    const { context } = this.#sizes;
    const pagesEach = Math.ceil(context / PAGE_TOKENS);
    const ids = new Array<number>(context).fill(0);
    const chunks = Array.from({ length: rows }, (_, row) => ({
      sequence: {
        ids,
        numCachedTokens: context - 1,
        pageIds: Array.from({ length: pagesEach }, (_, page) => row * pagesEach + page),
        plannedTokens: context,
      },
      count: 1,
    }));
    return makeBatch(chunks, PAGE_TOKENS, 'ends');
  }

  #prefillBatch(): Batch {
    const { promptTokens: count } = this.#sizes;
    const pageIds = Array.from({ length: Math.ceil(count / PAGE_TOKENS) }, (_, page) => page);
    const ids = new Array<number>(count).fill(0);
    return makeBatch(
      [{ sequence: { ids, numCachedTokens: 0, pageIds, plannedTokens: count }, count }],
      PAGE_TOKENS,
      'ends',
    );
  }
}
