/** Isolate memory: which models this isolate holds. Objects of one script may share it, so their plans count together. */
import { NibbleError } from '../../core/errors.ts';

/** Who holds a model. `leave` gives the memory up and says so, or says that it is in use. */
export interface Occupant {
  leave(): boolean;
}

/**
 * Of the isolate, as its memory is: the one value that objects of this script share. By model, since a model has one object and a new
 * instance of it means that the last one is gone; weak, since an instance that was ended cannot say farewell.
 */
const occupied = new Map<string, { bytes: number; by: WeakRef<Occupant> }>();

/** Takes `bytes` for a model, asking idle ones to leave. Throws `model_unsupported` when those in use leave too little. */
export function moveIn(model: string, bytes: number, occupant: Occupant, limitBytes: number): void {
  moveOut(model);
  for (const [other, { by }] of [...occupied]) {
    const holder = by.deref();
    if (holder === undefined || (takenBytes() + bytes > limitBytes && holder.leave())) moveOut(other);
  }
  if (takenBytes() + bytes > limitBytes)
    throw new NibbleError({
      code: 'model_unsupported',
      file: model,
      option: 'memory',
      reason: `needs ${bytes} bytes beside ${takenBytes()} of ${[...occupied.keys()].join(', ')}, answering in the same isolate, which has ${limitBytes}`,
    });
  occupied.set(model, { bytes, by: new WeakRef(occupant) });
}

export function moveOut(model: string): void {
  occupied.delete(model);
}

function takenBytes(): number {
  return [...occupied.values()].reduce((sum, { bytes }) => sum + bytes, 0);
}
