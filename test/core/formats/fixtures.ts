/** Fixtures: a committed .safetensors file's tensors as typed arrays. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { type FloatDtype, floatsOf } from '../../../core/formats/floats.ts';
import { openSafetensors, type SafetensorsFile } from '../../../core/formats/safetensors.ts';

const FIXTURES = join(import.meta.dirname, '../../fixtures');

export function fixturePath(path: string): string {
  return join(FIXTURES, path);
}

export function openFixture(path: string): Promise<SafetensorsFile> {
  return openSafetensors(new MemorySource(path, new Uint8Array(readFileSync(fixturePath(path)))));
}

/** A tensor of F32, F16 or BF16 as f32. */
export async function floats(file: SafetensorsFile, name: string): Promise<Float32Array> {
  return floatsOf(await file.read(name), file.tensors.get(name)!.dtype.toLowerCase() as FloatDtype);
}

/** A copy that starts its own buffer. */
export async function bytes(file: SafetensorsFile, name: string): Promise<Uint8Array> {
  return (await file.read(name)).slice();
}

/** ‖a − b‖₂ / ‖b‖₂ */
export function relativeError(actual: Float32Array, expected: Float32Array): number {
  return Math.hypot(...actual.map((value, i) => value - expected[i]!)) / Math.hypot(...expected);
}

/** The bits of f32 values, so that -0 and 0 differ. */
export function bits(values: Float32Array): number[] {
  return [...new Uint32Array(values.slice().buffer)];
}
