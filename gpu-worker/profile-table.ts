/** ProfileTable: what --profile prints. */
import type { KernelTime } from '../core/model/backend.ts';

/** A line a kernel, longest first. */
export function profileTable(times: readonly KernelTime[]): string {
  const totalMs = times.reduce((sum, { ms }) => sum + ms, 0);
  const rows = times.map(({ kernel, calls, ms }) =>
    [
      `${((100 * ms) / totalMs).toFixed(1)}%`.padStart(6),
      `${ms.toFixed(3)} ms`.padStart(14),
      `${calls}×`.padStart(8),
      `${((1000 * ms) / calls).toFixed(1)} µs`.padStart(12),
      ` ${kernel}`,
    ].join(' '),
  );
  return `${rows.join('\n')}\n`;
}
