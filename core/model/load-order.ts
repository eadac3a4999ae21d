/** LoadOrder: in which order a model's tensors are asked for when it loads; what a store reads ahead by. */
import type { Architecture, TensorNames } from './architecture.ts';

/** Names from `tensors` that loadModelWeights reads, in its order. Tensors of one module follow each other as they do in `tensors`. */
export function loadOrder(tensors: Iterable<string>, architecture: Architecture): string[] {
  const ranks = new Map(modulesOf(architecture).map((module, rank) => [module, rank]));
  const found: { name: string; rank: number }[] = [];
  for (const name of tensors) {
    // The module's name is the tensor's without its last parts: `.weight`, `.qweight`, `.weight.absmax`.
    for (let end = name.length; end > 0; end = name.lastIndexOf('.', end - 1)) {
      const rank = ranks.get(name.slice(0, end));
      if (rank === undefined) continue;
      found.push({ name, rank });
      break;
    }
  }
  return found.sort((a, b) => a.rank - b.rank).map(({ name }) => name);
}

function modulesOf({ tensors, layers, tiedHead }: Architecture): string[] {
  const layer = layerModules(tensors);
  const some = (names: readonly (string | null | undefined)[]) => names.filter((name) => name != null);
  return [
    ...some([tensors.embedding, tensors.positions, tensors.projection?.in, tensors.projection?.out]),
    ...some([tiedHead ? null : tensors.head]),
    ...Array.from({ length: layers }, (_, index) => layer.map((name) => `${tensors.layers}${index}.${name}`)).flat(),
    ...some([tensors.finalNorm]),
  ];
}

/** As checkpoint.ts reads a layer. */
function layerModules({ norms, queryKeyValue, attentionOutput, mlp }: TensorNames): string[] {
  const { outputs, heads } = norms;
  return [
    ...[norms.attention, norms.mlp, outputs?.attention, outputs?.mlp, heads?.query, heads?.key].filter(
      (name) => name != null,
    ),
    ...(queryKeyValue.kind === 'separate'
      ? [queryKeyValue.query, queryKeyValue.key, queryKeyValue.value]
      : [queryKeyValue.name]),
    attentionOutput,
    ...(mlp.kind === 'gated'
      ? [mlp.gate, mlp.up, mlp.down]
      : mlp.kind === 'fused'
        ? [mlp.gateUp, mlp.down]
        : [mlp.up, mlp.down]),
  ];
}
