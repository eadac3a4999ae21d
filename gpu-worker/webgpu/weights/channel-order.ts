/** ChannelOrder: how a GPTQ weight's channels lie on the device: sorted by group, every group padded to whole chunks of 32. */
import type { GptqWeight } from '../../../core/model/backend.ts';

const CHUNK = 32;
/** Place that holds no channel. */
export const NO_CHANNEL = 0xffffffff;

export interface ChannelOrder {
  chunks: number;
  /** [chunks·32] channel at each place; null: place and channel are the same, beyond inFeatures there is none. */
  channels: Uint32Array | null;
  /** Chunks that share a scale, throughout; the last may share it with fewer. */
  groupChunks: number;
  /** [⌈chunks / groupChunks⌉] the checkpoint's group of each; null: the same numbers. */
  sources: Uint32Array | null;
}

export function channelOrder({ inFeatures, groupSize, gIdx }: GptqWeight): ChannelOrder {
  const chunks = Math.ceil(inFeatures / CHUNK);
  if (gIdx === null && (groupSize >= inFeatures || groupSize % CHUNK === 0))
    return { chunks, channels: null, groupChunks: Math.min(chunks, Math.ceil(groupSize / CHUNK)), sources: null };
  const members = membersOf(inFeatures, (channel) => gIdx?.[channel] ?? Math.floor(channel / groupSize));
  const channels: number[] = [];
  for (const { own } of members) {
    for (const channel of own) channels.push(channel);
    while (channels.length % CHUNK !== 0) channels.push(NO_CHANNEL);
  }
  const sizes = members.map(({ own }) => Math.ceil(own.length / CHUNK));
  const [size] = sizes as [number];
  const isEven = sizes.every((chunks, i) => chunks === size || (i === sizes.length - 1 && chunks < size));
  return {
    chunks: channels.length / CHUNK,
    channels: Uint32Array.from(channels),
    groupChunks: isEven ? size : 1,
    sources: Uint32Array.from(
      isEven
        ? members.map(({ group }) => group)
        : members.flatMap(({ group }, i) => Array.from({ length: sizes[i]! }, () => group)),
    ),
  };
}

/** Groups that have channels, in order, each with its channels in order. */
function membersOf(inFeatures: number, groupOf: (channel: number) => number): { group: number; own: number[] }[] {
  const members = new Map<number, number[]>();
  for (let channel = 0; channel < inFeatures; channel++) {
    const own = members.get(groupOf(channel));
    if (own === undefined) members.set(groupOf(channel), [channel]);
    else own.push(channel);
  }
  return [...members].map(([group, own]) => ({ group, own })).sort((a, b) => a.group - b.group);
}
