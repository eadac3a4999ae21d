/** SafetensorsFile: writes one file tensor by tensor under a temporary name. */
import { open } from 'node:fs/promises';
import { type PlannedTensor, planSafetensors } from '../core/formats/safetensors-writer.ts';

/** transformers asks who wrote the file: "pt" says that tensors lie as PyTorch has them. */
const PYTORCH = { format: 'pt' };

/**
 * Writes header and tensors, one tensor in memory at a time. `bytesOf` must give as many bytes as dtype and shape ask for.
 * Resolves to the file's size once it is on disk.
 */
export async function writeSafetensors<Tensor extends PlannedTensor>(
  path: string,
  tensors: readonly Tensor[],
  bytesOf: (tensor: Tensor) => Promise<Uint8Array>,
  onTensor: (done: number, total: number) => void,
  metadata: Readonly<Record<string, string>> = PYTORCH,
): Promise<number> {
  const plan = planSafetensors(tensors, metadata, path);
  const handle = await open(path, 'w');
  try {
    await handle.writeFile(plan.header);
    for (const [index, tensor] of plan.tensors.entries()) {
      const bytes = await bytesOf(tensor);
      if (bytes.byteLength !== tensor.bytes)
        throw new Error(`${tensor.name}: ${bytes.byteLength} bytes where ${tensor.bytes} were planned`);
      await handle.writeFile(bytes);
      onTensor(index + 1, plan.tensors.length);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return plan.totalBytes;
}
