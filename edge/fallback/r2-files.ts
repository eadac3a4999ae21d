/** R2 files: a model's files in a bucket, under models/<name>/<file>, read by ranges, a few megabytes a request. */
import { NibbleError } from '../../core/errors.ts';
import type { ByteSource } from '../../core/formats/byte-source.ts';
import type { FileSet } from '../../core/formats/file-set.ts';

/** No file or tensor of a model that fits is read in larger pieces; more would not fit beside what is loaded. */
const MAX_READ_BYTES = 48_000_000;

/**
 * A request takes tens of milliseconds, and a small model has hundreds of tensors: smaller reads come out of windows of this size, which
 * begin at its multiples, so that tensors read in any order fetch no byte twice. Several, because a layer's tensors lie in several places:
 * files keep those of one type together.
 */
const WINDOW_BYTES = 2_000_000;
const NUM_WINDOWS = 4;

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

interface Window {
  begin: number;
  bytes: Uint8Array;
}

/** The object as it was found: one that is replaced or removed meanwhile cannot be read on. */
function sourceOf(bucket: R2Bucket, { key, size, etag }: R2Object): ByteSource {
  const missing = (reason: string) => new NibbleError({ code: 'file_missing', file: key, reason });
  let windows: Window[] = [];
  const fetchRange = async (offset: number, length: number): Promise<Uint8Array> => {
    const object = await bucket.get(key, { range: { offset, length }, onlyIf: { etagMatches: etag } });
    if (object === null) throw missing('was removed while it was read');
    if (!('body' in object)) throw missing('was replaced while it was read');
    return new Uint8Array(await object.arrayBuffer());
  };
  return {
    name: key,
    size,
    /** Views of a window where it is small: whoever keeps it copies it. */
    async read(offset, wanted) {
      const length = Math.min(wanted, size - offset);
      if (length <= 0) return new Uint8Array(0);
      if (length > MAX_READ_BYTES)
        throw new NibbleError({
          code: 'model_unsupported',
          file: key,
          option: 'memory',
          reason: `${length} bytes are needed at once; the fallback reads at most ${MAX_READ_BYTES}`,
        });
      const begin = offset - (offset % WINDOW_BYTES);
      if (offset + length > begin + WINDOW_BYTES) return fetchRange(offset, length);
      const found = windows.find((window) => window.begin === begin);
      const window = found ?? { begin, bytes: await fetchRange(begin, Math.min(WINDOW_BYTES, size - begin)) };
      windows = [window, ...windows.filter((other) => other !== window)].slice(0, NUM_WINDOWS);
      return window.bytes.subarray(offset - begin, offset - begin + length);
    },
  };
}
