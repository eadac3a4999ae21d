/** Shared data: where tests find real models and golden files that are not part of the repository. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The path under NIBBLE_SHARED_DATA, or under ../shared/data beside the repository; null when it is not there (skip the test then). */
export function sharedData(relativePath: string): string | null {
  const root = process.env.NIBBLE_SHARED_DATA ?? resolve(import.meta.dirname, '../../shared/data');
  const path = join(root, relativePath);
  return existsSync(path) ? path : null;
}
