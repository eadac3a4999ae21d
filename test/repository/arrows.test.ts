import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { forbiddenImports } from '../../scripts/arrows.ts';
import { sourceFile, sourceFiles } from '../../scripts/source-files.ts';
import { unusedExports } from '../../scripts/unused-exports.ts';

const files = sourceFiles(join(import.meta.dirname, '..', '..'));

describe('import arrows', () => {
  test('the repository keeps them', () => {
    expect(files.length).toBeGreaterThan(50);
    expect(forbiddenImports(files)).toEqual([]);
  });

  test.each([
    ['core/engine/x.ts', "import { readFile } from 'node:fs/promises';", 'node:fs/promises'],
    ['core/engine/x.ts', "import { env } from '../../edge/env.ts';", 'edge/env.ts'],
    ['edge/api/chat.ts', "import { DurableObject } from 'cloudflare:workers';", 'cloudflare:workers'],
    ['edge/api/chat.ts', "import type { Env } from '../env.ts';", 'edge/env.ts'],
    ['edge/queue/object.ts', "import { Link } from '../../gpu-worker/link.ts';", 'gpu-worker/link.ts'],
    ['wasm/backend.ts', "const fs = await import('node:fs');", 'node:fs'],
    ['gpu-worker/standalone.ts', "export { QueueObject } from '../edge/queue/object.ts';", 'edge/queue/object.ts'],
  ])('%s must not say %s', (path, text, target) => {
    expect(forbiddenImports([sourceFile(path, text)])).toEqual([expect.stringContaining(`imports ${target},`)]);
  });

  test('what is allowed passes', () => {
    expect(
      forbiddenImports([
        sourceFile('core/protocol.ts', "import { z } from 'zod';\nimport type { Failure } from './errors.ts';"),
      ]),
    ).toEqual([]);
  });
});

describe('unused code', () => {
  test('an export that nothing mentions is found', () => {
    const [dead, live] = [
      sourceFile('core/a.ts', 'export function alone(): void {}'),
      sourceFile('core/b.ts', 'const other = 1;'),
    ];
    expect(unusedExports([dead, live])).toEqual(['core/a.ts exports alone, which nothing uses']);
  });
});
