/** SourceFiles: the repository's TypeScript files and what each imports and exports, read as text. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, sep } from 'node:path';

const ROOMS = ['core', 'edge', 'gpu-worker', 'wasm', 'scripts', 'test', 'bench'];
const SKIPPED = new Set(['node_modules', 'build', 'assembly', 'fixtures', 'dist', '.wrangler']);

export interface SourceFile {
  /** From the repository's root, with forward slashes. */
  path: string;
  text: string;
  /** What it imports: repository paths for relative imports, package names otherwise. */
  imports: string[];
}

export function sourceFiles(root: string): SourceFile[] {
  return ROOMS.flatMap((room) => walk(join(root, room)))
    .filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts'))
    .map((path) => sourceFile(relative(root, path).split(sep).join('/'), readFileSync(path, 'utf8')));
}

export function sourceFile(path: string, text: string): SourceFile {
  const specifiers = [
    ...text.matchAll(/(?:^|\n)\s*(?:import|export)\s[^'";]*?from\s*['"]([^'"]+)['"]/g),
    ...text.matchAll(/import\s*\(?\s*['"]([^'"]+)['"]/g),
  ];
  const imports = specifiers.map(([, specifier]) =>
    specifier!.startsWith('.') ? posix.join(dirname(path), specifier!) : specifier!,
  );
  return { path, text, imports: [...new Set(imports)] };
}

function walk(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    if (SKIPPED.has(entry.name)) return [];
    const path = join(directory, entry.name);
    return entry.isDirectory() ? walk(path) : [path];
  });
}
