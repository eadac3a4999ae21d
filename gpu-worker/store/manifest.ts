/** Manifest: which files a published model has and what their bytes must be. Named by its own SHA-256, as its blobs are by theirs. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { NibbleError } from '../../core/errors.ts';

const FORMAT = 'nibble-weights/1';
/** Bytes that share one CRC-32: what a range asks for. Large enough to hide a store's latency, small enough to hold sixteen. */
export const CHUNK_BYTES = 4 << 20;
/** A trillion parameters in f16 are 500,000 chunks, 6 MB of checksums. */
export const MAX_MANIFEST_BYTES = 64_000_000;
/** The largest published checkpoints have about 200 shards. */
const MAX_FILES = 2000;
/** 2^53 bytes would be 8 PB; no object is over S3's 50 TB. */
const MAX_FILE_BYTES = 50e12;

const hex = (digits: number) => z.string().regex(new RegExp(`^[0-9a-f]{${digits}}$`));
/** A plain file name: nothing that could leave a directory, or be no name, on any system. */
const FILE_NAME = /^(?!\.)[^/\\:*?"<>|\p{Cc}]{1,200}$/u;
const fileName = z.string().regex(FILE_NAME);

/** Whether a manifest may name a file so. */
export function isFileName(name: string): boolean {
  return FILE_NAME.test(name);
}

const ManifestJson = z.object({
  format: z.literal(FORMAT),
  /** What was published, for people and lists. */
  model: z.string().max(1000),
  /** How it was quantized when it was published from plain weights; null: as it was. */
  quantization: z.string().max(100).nullable(),
  chunkBytes: z
    .int()
    .min(4096)
    .max(1 << 30),
  files: z
    .array(
      z.object({
        name: fileName,
        bytes: z.int().min(0).max(MAX_FILE_BYTES),
        sha256: hex(64),
        /** Of each chunk. */
        crc32: z.array(hex(8)),
      }),
    )
    .min(1)
    .max(MAX_FILES),
});

export type Manifest = z.infer<typeof ManifestJson>;
export type ManifestFile = Manifest['files'][number];

/** In the manifest's one way of writing itself: its name is the SHA-256 of these bytes. */
export function encodeManifest(manifest: Omit<Manifest, 'format'>): { id: string; bytes: Uint8Array } {
  const files = [...manifest.files]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, bytes, sha256, crc32 }) => ({ name, bytes, sha256, crc32 }));
  const { model, quantization, chunkBytes } = manifest;
  const text = `${JSON.stringify({ format: FORMAT, model, quantization, chunkBytes, files })}\n`;
  const bytes = new TextEncoder().encode(text);
  return { id: sha256Of(bytes), bytes };
}

/** Throws `file_invalid` when the bytes are not those that `id` names, or no manifest. */
export function decodeManifest(bytes: Uint8Array, id: string, file: string): Manifest {
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  const found = sha256Of(bytes);
  if (found !== id) throw invalid(`has the SHA-256 ${found}; its name says ${id}`);
  const parsed = ManifestJson.safeParse(parseJson(bytes, invalid));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(`${issue?.path.join('.') || 'the manifest'}: ${issue?.message}`);
  }
  const manifest = parsed.data;
  for (const { name, bytes: size, crc32 } of manifest.files) {
    const chunks = Math.ceil(size / manifest.chunkBytes);
    if (crc32.length !== chunks) throw invalid(`${name} has ${crc32.length} checksums for ${chunks} chunks`);
  }
  if (new Set(manifest.files.map(({ name }) => name)).size < manifest.files.length) throw invalid('names a file twice');
  return manifest;
}

/** What lies beside the manifests and names the current one. */
const PointerJson = z.object({ format: z.literal(FORMAT), manifest: hex(64) });

export function encodePointer(id: string): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify({ format: FORMAT, manifest: id })}\n`);
}

/** The manifest's id. Throws `file_invalid`. */
export function decodePointer(bytes: Uint8Array, file: string): string {
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  const parsed = PointerJson.safeParse(parseJson(bytes, invalid));
  if (!parsed.success) throw invalid(`does not name a manifest of the format ${FORMAT}`);
  return parsed.data.manifest;
}

function parseJson(bytes: Uint8Array, invalid: (rule: string) => NibbleError): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw invalid('is not JSON');
  }
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
