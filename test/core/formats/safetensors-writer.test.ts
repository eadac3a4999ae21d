/** Safetensors writer: what it plans, the reader takes. */
import { expect, test } from 'vitest';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { openSafetensors } from '../../../core/formats/safetensors.ts';
import { planSafetensors } from '../../../core/formats/safetensors-writer.ts';

test('the header describes tensors that follow widest first, then by name, each aligned to its elements', async () => {
  const plan = planSafetensors(
    [
      { name: 'b', dtype: 'U8', shape: [3] },
      { name: 'z', dtype: 'F16', shape: [3] },
      { name: '__proto__', dtype: 'F32', shape: [2, 1] },
      { name: 'a', dtype: 'F16', shape: [] },
      { name: 'empty', dtype: 'I64', shape: [0, 4] },
    ],
    { format: 'pt' },
    'out',
  );
  expect(plan.tensors.map(({ name, bytes }) => [name, bytes])).toEqual([
    ['empty', 0],
    ['__proto__', 8],
    ['a', 2],
    ['z', 6],
    ['b', 3],
  ]);
  expect(plan.header.length % 8).toBe(0);
  expect(plan.totalBytes).toBe(plan.header.length + 19);
  const bytes = new Uint8Array(plan.totalBytes);
  bytes.set(plan.header);
  const file = await openSafetensors(new MemorySource('out', bytes));
  expect([...file.tensors.keys()]).toEqual(['empty', '__proto__', 'a', 'z', 'b']);
  expect(file.metadata.format).toBe('pt');
});
