/** LocalBucket: a model's files in the local edge's bucket, where the fallback finds them as it would in R2. */
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The binding and bucket of edge/fallback/wrangler.toml, with nothing around them. */
const CONFIG = {
  name: 'nibble-models',
  compatibility_date: '2026-10-01',
  r2_buckets: [{ binding: 'MODELS', bucket_name: 'nibble-models' }],
};
/** What a model consists of; a README beside it stays. */
const FILES = /\.(json|jinja|safetensors)$/;

interface Bucket {
  put(key: string, value: ArrayBuffer): Promise<unknown>;
}

/** Puts the directory's files under models/<name>/; does nothing when they are there as they are. The edge must not be running. */
export async function putLocalModel(state: string, name: string, directory: string): Promise<void> {
  const files = (await readdir(directory)).filter((file) => FILES.test(file)).sort();
  const stats = await Promise.all(files.map((file) => stat(join(directory, file))));
  const stamp = JSON.stringify(files.map((file, at) => [file, stats[at]!.size, stats[at]!.mtimeMs]));
  const own = join(state, 'fallback', 'models');
  const stampFile = join(own, `${encodeURIComponent(name)}.json`);
  if ((await readFile(stampFile, 'utf8').catch(() => '')) === stamp) return;
  await mkdir(own, { recursive: true });
  const configPath = join(state, 'fallback', 'wrangler.json');
  await writeFile(configPath, JSON.stringify(CONFIG));
  const { getPlatformProxy } = await import('wrangler');
  // Where the fallback's own storage is kept, in wrangler's layout.
  const proxy = await getPlatformProxy<{ MODELS: Bucket }>({
    configPath,
    persist: { path: join(state, 'fallback', 'v3') },
  });
  try {
    for (const file of files) {
      const bytes = await readFile(join(directory, file));
      const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
      await proxy.env.MODELS.put(`models/${name}/${file}`, buffer);
    }
  } finally {
    await proxy.dispose();
  }
  await writeFile(stampFile, stamp);
}
