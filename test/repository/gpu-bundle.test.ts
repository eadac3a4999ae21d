/** The bundle for GPU machines runs the GPU's tests without vitest: its runner must have every name that they use. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');

test('the bundle’s runner exports whatever a test of the GPU imports from vitest', () => {
  const runner = readFileSync(join(ROOT, 'scripts/gpu-bundle/vitest.ts'), 'utf8');
  const offered = new Set([...runner.matchAll(/^export (?:const|function) (\w+)/gm)].map(([, name]) => name));
  const folder = join(ROOT, 'test/webgpu');
  const wanted = readdirSync(folder).flatMap((file) => {
    const source = readFileSync(join(folder, file), 'utf8');
    const names = /import \{([^}]*)\} from 'vitest';/.exec(source)?.[1] ?? '';
    return names.split(',').map((name) => ({ file, name: name.trim() }));
  });
  const missing = wanted.filter(({ name }) => name !== '' && !name.startsWith('type ') && !offered.has(name));
  expect(missing).toEqual([]);
  expect(offered.size).toBeGreaterThan(4);
});
