/** R2 files: a model's files in a bucket, under models/<name>/<file>, read by ranges. */
import { NibbleError } from '../../core/errors.ts';
import type { ByteSource } from '../../core/formats/byte-source.ts';
import type { FileSet } from '../../core/formats/file-set.ts';

/** No file or tensor of a model that fits is read in larger pieces; more would not fit beside what is loaded. */
const MAX_READ_BYTES = 48_000_000;

export function openR2Model(bucket: R2Bucket, model: string): FileSet {
  const prefix = `models/${model}/`;
  return {
    name: prefix.slice(0, -1),
    async open(path) {
      const object = await bucket.head(prefix + path);
      return object === null ? null : sourceOf(bucket, object);
    },
    async list() {
      const { objects } = await bucket.list({ prefix, delimiter: '/' });
      return objects.map(({ key }) => key.slice(prefix.length));
    },
  };
}

/** The object as it was found: one that is replaced or removed meanwhile cannot be read on. */
function sourceOf(bucket: R2Bucket, { key, size, etag }: R2Object): ByteSource {
  const missing = (reason: string) => new NibbleError({ code: 'file_missing', file: key, reason });
  return {
    name: key,
    size,
    async read(offset, length) {
      if (length > MAX_READ_BYTES)
        throw new NibbleError({
          code: 'model_unsupported',
          file: key,
          option: 'memory',
          reason: `${length} bytes are needed at once; the fallback reads at most ${MAX_READ_BYTES}`,
        });
      if (length === 0 || offset >= size) return new Uint8Array(0);
      const range = { offset, length: Math.min(length, size - offset) };
      const object = await bucket.get(key, { range, onlyIf: { etagMatches: etag } });
      if (object === null) throw missing('was removed while it was read');
      if (!('body' in object)) throw missing('was replaced while it was read');
      return new Uint8Array(await object.arrayBuffer());
    },
  };
}
