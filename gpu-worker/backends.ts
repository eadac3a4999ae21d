/** Backends: the kernel set that --backend names. */
import { NibbleError } from '../core/errors.ts';
import type { Backend } from '../core/model/backend.ts';
import { ReferenceBackend } from '../core/model/reference.ts';
import { ensureWasmBuilt } from '../scripts/build-wasm.ts';
import { loadWasmBackend } from '../wasm/node.ts';
import { usage } from './command-line.ts';

export async function openBackend(name: string): Promise<Backend> {
  switch (name) {
    case 'auto':
    case 'wasm':
      ensureWasmBuilt();
      return loadWasmBackend({ variant: 'auto' });
    case 'reference':
      return new ReferenceBackend();
    case 'webgpu':
    case 'cuda':
      throw usage(`--backend ${name} is not supported yet`);
    default:
      throw new NibbleError({ code: 'internal', reason: `there is no backend "${name}"` });
  }
}
