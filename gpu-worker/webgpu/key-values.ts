/** KeyValues: the pages on the device, what writes them and what attends over them. */
import type { Activation, AttentionOptions, KvShape, Rope } from '../../core/model/backend.ts';
import { impossible } from './activations.ts';
import type { Gpu } from './gpu.ts';
import type { Space } from './row-ops.ts';
import type { StepInputs } from './step-inputs.ts';

export interface GpuRope extends Rope {
  /** [tokens, rotaryDim/2] f32 */
  cos: GPUBuffer;
  sin: GPUBuffer;
  step: number;
}

export class KeyValues {
  static async budgetBytes(_gpu: Gpu): Promise<number> {
    return 1 << 30;
  }
  constructor(_space: Space, _shape: KvShape, _options: { deterministic: boolean }) {}
  ropeKv(
    _step: StepInputs,
    _layer: number,
    _q: Activation,
    _k: Activation,
    _v: Activation,
    _rope: GpuRope | null,
  ): void {
    throw impossible('not yet');
  }
  attention(_step: StepInputs, _layer: number, _q: Activation, _options: AttentionOptions): Activation {
    throw impossible('not yet');
  }
}
