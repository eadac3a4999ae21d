import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { decodeManifest, decodePointer, encodeManifest, encodePointer } from '../../../gpu-worker/store/manifest.ts';
import { below, formatS3, parseS3Address } from '../../../gpu-worker/store/s3-address.ts';

describe('s3:// addresses', () => {
  test.for([
    ['s3://models/llama', { bucket: 'models', prefix: 'llama' }, 's3://models/llama'],
    ['s3://models', { bucket: 'models', prefix: '' }, 's3://models'],
    ['s3://models//a//b/', { bucket: 'models', prefix: 'a/b' }, 's3://models/a/b'],
  ] as const)('%s', ([text, address, written]) => {
    expect(parseS3Address(text)).toEqual(address);
    expect(formatS3(address)).toBe(written);
  });

  test.for([
    ['models/llama', 'is not an address of the form s3://bucket/prefix'],
    ['s3://', 'names the bucket ""; bucket names are 3 to 63 of a-z, 0-9, dots and dashes'],
    ['s3://Ab', 'names the bucket "Ab"; bucket names are 3 to 63 of a-z, 0-9, dots and dashes'],
    ['s3://models/../x', 'has "." or ".." in its prefix'],
    [`s3://models/${'é'.repeat(451)}`, 'has a prefix of over 900 bytes'],
  ] as const)('%s is refused', ([text, reason]) => {
    expect(() => parseS3Address(text)).toThrow(`"${text}" ${reason}`);
  });

  test('below leaves out empty parts', () => {
    expect(below({ bucket: 'models', prefix: '' }, 'a', '', 'b').prefix).toBe('a/b');
  });
});

describe('manifests', () => {
  const file = { name: 'model.safetensors', bytes: 5000, sha256: 'a'.repeat(64), crc32: ['00000001', '00000002'] };
  const other = { ...file, name: 'config.json', bytes: 10, crc32: ['00000003'] };
  const manifest = { model: 'm', quantization: null, chunkBytes: 4096, files: [file, other] };

  test('come back as they were, under one name whatever the order of their files', () => {
    const { id, bytes } = encodeManifest(manifest);
    expect(encodeManifest({ ...manifest, files: [other, file] }).id).toBe(id);
    const decoded = decodeManifest(bytes, id, 's3://b/m');
    expect(decoded.files.map(({ name }) => name)).toEqual(['config.json', 'model.safetensors']);
    expect(decodePointer(encodePointer(id), 's3://b/p')).toBe(id);
  });

  /** The decoder's sentence for a manifest whose text was changed, and named rightly all the same. */
  function refused(change: (json: typeof manifest & { format: string }) => unknown): string {
    const json = JSON.parse(new TextDecoder().decode(encodeManifest(manifest).bytes));
    const bytes = new TextEncoder().encode(JSON.stringify(change(json)));
    try {
      decodeManifest(bytes, createHash('sha256').update(bytes).digest('hex'), 's3://b/m');
    } catch (error) {
      return (error as Error).message;
    }
    return 'accepted';
  }

  test.for([
    ['another format', (json) => ({ ...json, format: 'x' }), 's3://b/m: format: '],
    ['no files', (json) => ({ ...json, files: [] }), 's3://b/m: files: '],
    ['a path that climbs', (json) => ({ ...json, files: [{ ...file, name: '../x' }] }), 's3://b/m: files.0.name: '],
    ['a path', (json) => ({ ...json, files: [{ ...file, name: 'a\\b' }] }), 's3://b/m: files.0.name: '],
    ['a hidden file', (json) => ({ ...json, files: [{ ...file, name: '.bashrc' }] }), 's3://b/m: files.0.name: '],
    [
      'too few checksums',
      (json) => ({ ...json, files: [{ ...file, crc32: [] }] }),
      's3://b/m: model.safetensors has 0 checksums for 2 chunks',
    ],
    ['a file twice', (json) => ({ ...json, files: [file, file] }), 's3://b/m: names a file twice'],
    ['a size beyond any', (json) => ({ ...json, files: [{ ...file, bytes: 1e300 }] }), 's3://b/m: files.0.bytes: '],
    ['chunks of no bytes', (json) => ({ ...json, chunkBytes: 0 }), 's3://b/m: chunkBytes: '],
  ] as [string, (json: typeof manifest & { format: string }) => unknown, string][])(
    '%s is refused',
    ([_, change, sentence]) => {
      expect(refused(change)).toContain(sentence);
    },
  );

  test('bytes that are not those of the name, and no JSON, are refused', () => {
    const { id, bytes } = encodeManifest(manifest);
    expect(() => decodeManifest(bytes.slice(1), id, 's3://b/m')).toThrow(`its name says ${id}`);
    const text = new TextEncoder().encode('{');
    const name = createHash('sha256').update(text).digest('hex');
    expect(() => decodeManifest(text, name, 's3://b/m')).toThrow('s3://b/m: is not JSON');
    expect(() => decodePointer(text, 's3://b/p')).toThrow('s3://b/p: is not JSON');
    expect(() => decodePointer(new TextEncoder().encode('{}'), 's3://b/p')).toThrow(
      's3://b/p: does not name a manifest of the format nibble-weights/1',
    );
  });
});
