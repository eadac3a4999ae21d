/** Arrows: which room may import which. One list, held by `npm run check` and by a test. */
import type { SourceFile } from './source-files.ts';

interface Room {
  /** Files under this path; the longest that fits decides. */
  path: string;
  /** Repository paths that it may import, as prefixes. */
  rooms: readonly string[];
  /** Packages that it may import; null: any. */
  packages: readonly string[] | null;
}

const RULES: readonly Room[] = [
  // Pure: runs in workerd, Node and a browser.
  { path: 'core/', rooms: ['core/'], packages: ['zod', '@huggingface/tokenizers', '@huggingface/jinja'] },
  // Mounted by the edge and later by a worker that stands alone: reaches the world through service.ts only.
  { path: 'edge/api/', rooms: ['core/', 'edge/api/'], packages: ['hono', '@hono/zod-openapi', 'zod'] },
  {
    path: 'edge/',
    rooms: ['core/', 'wasm/', 'edge/'],
    packages: ['hono', '@hono/zod-openapi', 'zod', 'stripe', 'cloudflare:workers'],
  },
  { path: 'wasm/', rooms: ['core/', 'wasm/'], packages: [] },
  // Node's threads: one module opens them, the other runs in them.
  { path: 'wasm/thread.ts', rooms: ['core/', 'wasm/'], packages: ['node:'] },
  { path: 'wasm/threads.ts', rooms: ['core/', 'wasm/'], packages: ['node:'] },
  { path: 'wasm/node.ts', rooms: ['core/', 'wasm/', 'scripts/build-wasm.ts'], packages: ['node:'] },
  { path: 'wasm/thread.ts', rooms: ['core/', 'wasm/'], packages: ['node:'] },
  { path: 'wasm/threads.ts', rooms: ['core/', 'wasm/'], packages: ['node:'] },
  {
    path: 'gpu-worker/',
    rooms: ['core/', 'wasm/', 'gpu-worker/', 'edge/api/', 'scripts/build-wasm.ts'],
    packages: null,
  },
];

/** One sentence a forbidden import. */
export function forbiddenImports(files: readonly SourceFile[]): string[] {
  return files.flatMap(({ path, imports }) => {
    const rule = RULES.filter((candidate) => path.startsWith(candidate.path)).sort(
      (a, b) => b.path.length - a.path.length,
    )[0];
    if (rule === undefined) return [];
    return imports
      .filter((target) => !allowed(rule, target))
      .map((target) => `${path} imports ${target}, which ${rule.path} may not`);
  });
}

function allowed(rule: Room, target: string): boolean {
  const inRepository = /^(core|edge|gpu-worker|wasm|scripts|test|bench|models|infra)\//.test(target);
  if (inRepository) return rule.rooms.some((room) => target.startsWith(room));
  if (target.startsWith('..')) return false;
  return (
    rule.packages === null ||
    rule.packages.some((name) => target === name || target.startsWith(name.endsWith(':') ? name : `${name}/`))
  );
}
