/** Load: a weight of any kind from a checkpoint's layout to the kernels'. */
import type { LinearWeight } from '../../../core/model/backend.ts';
import { loadBnb4 } from './bnb4.ts';
import type { ChannelBuffers } from './channel-buffers.ts';
import { loadGptq } from './gptq.ts';
import type { GpuLinear } from './gpu-linear.ts';
import { expectLength, type Loading } from './loading.ts';
import { loadDense, loadInt8 } from './rows.ts';

export function loadWeight(loading: Loading, channels: ChannelBuffers, weight: LinearWeight): Promise<GpuLinear> {
  if (weight.bias !== null) expectLength(loading.label, 'bias', weight.bias.length, weight.outFeatures);
  switch (weight.kind) {
    case 'dense':
      return loadDense(loading, weight);
    case 'gptq':
      return loadGptq(loading, channels, weight);
    case 'bnb4':
      return loadBnb4(loading, weight);
    case 'int8':
      return loadInt8(loading, weight);
    default:
      return weight satisfies never;
  }
}
