/** The linears under test: a weight loaded and multiplied in a step of its own, and how far that is from the reference. */
import type { LinearWeight } from '../../core/model/backend.ts';
import { referenceLinear } from '../../core/model/reference-weights.ts';
import { Linears, type LinearsOptions } from '../../gpu-worker/webgpu/linears.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { gaussians } from '../wasm/inputs.ts';
import { relativeError } from '../wasm/oracle.ts';
import { place, readBack } from './gpu-under-test.ts';

/** Tokens around every kernel shape: each GEMV, each tile, and one more. */
export const TOKENS = [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 33];

/** The bar for sums in f32. */
export const F32_TOLERANCE = 1e-5;

export class LinearsUnderTest {
  readonly space: Space;
  readonly linears: Linears;

  constructor(space: Space, options: Partial<LinearsOptions> = {}) {
    this.space = space;
    this.linears = new Linears(space, { deterministic: false, ...options });
  }

  async product(weight: LinearWeight, x: Float32Array): Promise<Float32Array> {
    const linear = await this.linears.load(weight, 'weight');
    this.space.activations.begin();
    const [y] = this.linears.run(place(this.space, x, weight.inFeatures), [linear]);
    return readBack(this.space, y!);
  }

  /** The largest relative error over products with so many tokens each, the last of which is all negative. */
  async worstError(weight: LinearWeight, tokenCounts: readonly number[], make = gaussians): Promise<number> {
    const { inFeatures } = weight;
    const linear = await this.linears.load(weight, 'weight');
    let worst = 0;
    for (const tokens of tokenCounts) {
      const x = make(tokens * inFeatures, tokens);
      for (let i = (tokens - 1) * inFeatures; i < x.length; i++) x[i] = -Math.abs(x[i]!);
      this.space.activations.begin();
      const [y] = this.linears.run(place(this.space, x, inFeatures), [linear]);
      worst = Math.max(worst, relativeError(await readBack(this.space, y!), referenceLinear(x, tokens, weight)));
    }
    return worst;
  }
}
