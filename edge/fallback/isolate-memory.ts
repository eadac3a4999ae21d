/** Isolate memory: which models this isolate holds. Objects of one script may share it, so their plans count together. */
import { NibbleError } from '../../core/errors.ts';

interface Tenant {
  model: string;
  bytes: number;
  /** Gives its memory up and says so, or says that it is in use. */
  leave(): boolean;
}

/** Of the isolate, as its memory is: the one value that objects of this script share. */
const tenants = new Set<Tenant>();

/** Makes room by asking idle models to leave. Throws `model_unsupported` when those in use leave too little. Returns how to move out. */
export function moveIn(tenant: Tenant, limitBytes: number): () => void {
  const taken = () => [...tenants].reduce((sum, { bytes }) => sum + bytes, 0);
  for (const other of [...tenants]) if (taken() + tenant.bytes > limitBytes && other.leave()) tenants.delete(other);
  if (taken() + tenant.bytes > limitBytes)
    throw new NibbleError({
      code: 'model_unsupported',
      file: tenant.model,
      option: 'memory',
      reason: `needs ${tenant.bytes} bytes beside ${taken()} of ${[...tenants].map(({ model }) => model).join(', ')}, which this isolate is answering with; it has ${limitBytes}`,
    });
  tenants.add(tenant);
  return () => tenants.delete(tenant);
}
