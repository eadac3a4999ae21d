/** ChannelBuffers: channel orders on the device; weights of one order share a buffer, so that an input is gathered once for them. */
import type { Loading } from './loading.ts';

export class ChannelBuffers {
  readonly #known = new Map<string, { channels: Uint32Array; buffer: GPUBuffer }[]>();

  /** The first weight of an order has its bytes. */
  async of(channels: Uint32Array, loading: Loading): Promise<GPUBuffer> {
    const key = `${channels.length}:${hash(channels)}`;
    const alike = this.#known.get(key) ?? [];
    const known = alike.find((other) => other.channels.every((channel, i) => channel === channels[i]));
    if (known !== undefined) return known.buffer;
    const buffer = await loading.values(channels);
    this.#known.set(key, [...alike, { channels, buffer }]);
    return buffer;
  }
}

/** FNV-1a over words: it only narrows the search. */
function hash(words: Uint32Array): number {
  return words.reduce((sum, word) => Math.imul(sum ^ word, 0x01000193), 0x811c9dc5);
}
