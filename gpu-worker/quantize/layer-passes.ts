/** LayerPasses: the calibration data's way through a layer, once to collect Hessians and once to go on to the next; on one backend or on threads. */
import type { HiddenStates } from './hidden-states.ts';
import type { LayerInput } from './layer-linears.ts';
import type { LayerSource } from './layer-source.ts';

export interface LayerPasses {
  /** The backend's name. */
  readonly name: string;
  /** Fills the hidden states with the embeddings of the sequences. */
  embed(source: LayerSource, sequences: readonly (readonly number[])[], hidden: HiddenStates): Promise<void>;
  /** H = 2/N · Σ over N sequences of x·xᵀ, [columns, columns] of each input. The hidden states stay as they are. */
  hessians(
    source: LayerSource,
    layer: number,
    inputs: readonly LayerInput[],
    hidden: HiddenStates,
    onSequence: () => void,
  ): Promise<Float32Array[]>;
  /** Takes the hidden states through the layer. */
  advance(source: LayerSource, layer: number, hidden: HiddenStates, onSequence: () => void): Promise<void>;
  close(): Promise<void>;
}
