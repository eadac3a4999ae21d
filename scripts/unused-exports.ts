/** UnusedExports: exported names that no other file mentions. */
import type { SourceFile } from './source-files.ts';

/** Names that something outside the sources calls: wrangler, vitest. */
const ENTRY_POINTS = new Set(['edge/index.ts', 'gpu-worker/cli.ts']);

export function unusedExports(files: readonly SourceFile[]): string[] {
  const words = files.map(({ text }) => new Set(text.match(/[A-Za-z_$][\w$]*/g)));
  return files.flatMap(({ path, text }, index) => {
    if (ENTRY_POINTS.has(path) || path.startsWith('test/') || path.endsWith('.config.ts')) return [];
    const names = [
      ...text.matchAll(
        /(?:^|\n)export (?:abstract )?(?:async )?(?:const|let|function\*?|class|interface|type|enum) ([A-Za-z_$][\w$]*)/g,
      ),
    ].map(([, name]) => name!);
    return names
      .filter((name) => {
        // An interface that only its own file's exports mention is part of their contract.
        const used = words.some((set, other) => other !== index && set.has(name));
        const mentioned = text.split(new RegExp(`\\b${name.replaceAll('$', '\\$')}\\b`)).length - 1;
        return !used && mentioned < 2;
      })
      .map((name) => `${path} exports ${name}, which nothing uses`);
  });
}
