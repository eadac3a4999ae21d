/** Embedding: from a batch's token ids to the hidden states that the first layer takes. */
import type { Architecture } from './architecture.ts';
import type { Activation, Backend, Batch } from './backend.ts';
import { spent } from './spent.ts';
import type { EmbeddingWeights } from './weights.ts';

/** [tokens, hidden], of a batch that the backend has begun. */
export function embedTokens(
  config: Architecture,
  { embedding, projection, positions: table }: EmbeddingWeights,
  backend: Backend,
  { tokenIds, positions }: Batch,
): Activation {
  const rows = backend.embed(embedding, tokenIds, config.embeddingScale);
  const x = projection === null ? rows : spent(backend, rows, (wide) => backend.linear(wide, projection.in));
  if (table === null) return x;
  const { offset } = config.learnedPositions!;
  const entries = positions.map((position) => position + offset);
  return spent(backend, backend.embed(table, entries, 1), (learned) => {
    backend.add(x, learned);
    return x;
  });
}
