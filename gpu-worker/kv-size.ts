/** KvSize: how many tokens the key/value cache holds. */
import { PAGE_TOKENS } from '../core/engine/engine.ts';
import { NibbleError } from '../core/errors.ts';
import { type Backend, type KvDtype, kvBytesPerToken } from '../core/model/backend.ts';
import type { ModelConfig } from '../core/model/config.ts';

export interface KvSize {
  /** null: the backend's own choice. */
  dtype: KvDtype | null;
  /** Tokens of all sequences together. */
  tokens: number;
  /** The longest sequence: the model's context, or the cache where that is smaller. */
  contextTokens: number;
}

/** `given` tokens, or all slots' full contexts as far as memory allows. Throws `out_of_memory` when not even a page fits. */
export async function kvSize(
  config: ModelConfig,
  backend: Backend,
  options: { slots: number; given: number | null; dtype: KvDtype | null },
): Promise<KvSize> {
  const { dtype, given, slots } = options;
  const tokenBytes = kvBytesPerToken({ ...config, dtype: dtype ?? backend.defaultKvDtype });
  const wanted = slots * config.contextTokens;
  const tokens = given ?? Math.min(wanted, Math.floor((await backend.kvBudgetBytes()) / tokenBytes));
  if (tokens < PAGE_TOKENS)
    throw new NibbleError({
      code: 'out_of_memory',
      what: 'a page of the key/value cache beside the weights',
      bytes: PAGE_TOKENS * tokenBytes,
    });
  return { dtype, tokens, contextTokens: Math.min(config.contextTokens, tokens) };
}
