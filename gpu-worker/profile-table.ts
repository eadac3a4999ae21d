/** ProfileTable: what --profile prints. */
import type { Backend } from '../core/model/backend.ts';
import { WebGpuBackend } from './webgpu/backend.ts';

/** Kernels by time, longest first, since the last call. One line says so where the adapter cannot time. */
export function profileTable(backend: Backend): string {
  const times = backend instanceof WebGpuBackend ? backend.takeProfile() : null;
  if (times === null) return 'this adapter has no timestamps\n';
  const totalNs = times.reduce((sum, time) => sum + time.totalNs, 0);
  const rows = times.map(({ name, dispatches, totalNs: ns }) =>
    [
      `${((100 * ns) / totalNs).toFixed(1)}%`.padStart(6),
      `${(ns / 1e6).toFixed(3)} ms`.padStart(14),
      `${dispatches}×`.padStart(8),
      `${(ns / dispatches / 1e3).toFixed(1)} µs`.padStart(12),
      ` ${name}`,
    ].join(' '),
  );
  return `${rows.join('\n')}\n`;
}
