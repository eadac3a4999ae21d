/**
 * Chunk plan: the order in which a weight's input channels lie in memory, so that every weight group is contiguous whatever its size
 * and whichever channels it has. Groups are padded to octets of 8 places; activations go the same way once a call (quantize_rows).
 */
import type { KernelMemory } from '../memory.ts';

export interface ChunkPlan {
  /** Groups of the checkpoint that have channels, rising. */
  present: number[];
  /** [octets·8] input channel of each place; inFeatures where there is none */
  places: Int32Array;
  /** [present.length] */
  groupOctets: Int32Array;
  octets: number;
  /** Runs of at most 4 octets of one group: each has its own activation scale. */
  chunks: number;
}

export interface PlacedPlan {
  /** Equal when the plans quantize activations alike: then one quantization serves both weights. */
  activationOrder: string;
  groups: number;
  octets: number;
  chunks: number;
  /** [groups] i32 */
  groupOctets: number;
  /** [octets·8] i32; null when place k is channel k throughout */
  channels: number | null;
  bytes: number;
}

/** `groupOf` gives each channel's group; channels of a group keep their order. */
export function planChunks(inFeatures: number, groups: number, groupOf: (channel: number) => number): ChunkPlan {
  const channelsOf = new Int32Array(groups);
  for (let k = 0; k < inFeatures; k++) channelsOf[groupOf(k)]!++;
  const present = [...channelsOf.keys()].filter((group) => channelsOf[group]! > 0);
  const groupOctets = Int32Array.from(present, (group) => Math.ceil(channelsOf[group]! / 8));
  const octets = groupOctets.reduce((sum, count) => sum + count, 0);
  const chunks = groupOctets.reduce((sum, count) => sum + Math.ceil(count / 4), 0);

  const nextPlace = new Int32Array(groups);
  let place = 0;
  present.forEach((group, i) => {
    nextPlace[group] = place;
    place += groupOctets[i]! * 8;
  });
  const places = new Int32Array(octets * 8).fill(inFeatures);
  for (let k = 0; k < inFeatures; k++) places[nextPlace[groupOf(k)]!++] = k;
  return { present, places, groupOctets, octets, chunks };
}

/** Plans that lie in a memory, by their activation order and groups: equal ones lie there once. */
const placedPlans = new WeakMap<KernelMemory, Map<string, PlacedPlan>>();

export function placePlan(memory: KernelMemory, plan: ChunkPlan, inFeatures: number, label: string): PlacedPlan {
  const { groupOctets, places, octets, chunks } = plan;
  const inOrder = places.length === inFeatures && places.every((channel, at) => channel === at);
  const wholeChunks = groupOctets.every((count) => count % 4 === 0);
  const order = inOrder ? `${octets} in order` : places.join();
  const activationOrder = wholeChunks ? order : `${order} in groups of ${groupOctets.join()}`;
  const plans = placedPlans.get(memory) ?? new Map<string, PlacedPlan>();
  placedPlans.set(memory, plans);
  const key = `${groupOctets.join()} ${activationOrder}`;
  const known = plans.get(key);
  if (known !== undefined) return known;
  const place = (values: Int32Array) => {
    const address = memory.permanent(values.byteLength, label);
    memory.i32(address, values.length).set(values);
    return address;
  };
  const placed: PlacedPlan = {
    activationOrder,
    groups: groupOctets.length,
    octets,
    chunks,
    groupOctets: place(groupOctets),
    channels: inOrder ? null : place(places),
    bytes: groupOctets.byteLength + (inOrder ? 0 : places.byteLength),
  };
  plans.set(key, placed);
  return placed;
}
