/** KernelSource: a .wgsl file made into a shader for one set of defines, and its interface read back from the text. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Booleans steer `#if`; numbers become constants of the shader too. */
export type Defines = Readonly<Record<string, number | boolean>>;

/** A field of the kernel's `Params` uniform, 4 bytes each, in order. */
export interface ParamField {
  name: string;
  type: 'u32' | 'i32' | 'f32';
}

export interface KernelInterface {
  params: readonly ParamField[];
  /** Access of bindings 1, 2, …; binding 0 is the params. */
  storage: readonly ('read' | 'read_write')[];
}

const DIRECTORY = join(import.meta.dirname, 'kernels');

/**
 * Lines `#if NAME`, `#if !NAME`, `#else`, `#endif` choose by a define (a number counts as on unless 0), and `#include "file"` puts
 * another file there. `#repeat i COUNT` … `#end` writes the lines between COUNT times, `$i` as 0, 1, …: unrolled for every driver alike.
 * `@binding(next)` takes the number after the bindings before it. Numbers are declared as `const NAME = value;` after the `enable` lines.
 */
export function shaderSource(file: string, defines: Defines, directory = DIRECTORY): string {
  const lines = expand(directory, file, defines);
  const constants = Object.entries(defines)
    .filter(([, value]) => typeof value === 'number')
    .map(([name, value]) => `const ${name} = ${value};`);
  const isDirective = (line: string) => /^(enable|requires|diagnostic)\b/.test(line);
  let bindings = 0;
  return [...lines.filter(isDirective), ...constants, ...lines.filter((line) => !isDirective(line))]
    .join('\n')
    .replaceAll(/@binding\((\w+)\)/g, (_, number) => {
      const index = number === 'next' ? bindings : Number(number);
      bindings = index + 1;
      return `@binding(${index})`;
    });
}

/** The lines with every `#repeat` written out, outer ones first. A count that is no define is 0: its `#if` may be off. */
function unrolled(file: string, lines: readonly string[], defines: Defines): string[] {
  const begin = lines.findIndex((line) => line.startsWith('#repeat '));
  if (begin < 0) return [...lines];
  const [, name, count] = /^#repeat (\w+) (\w+)$/.exec(lines[begin]!) ?? [];
  let depth = 0;
  const end = lines.findIndex((line, at) => {
    if (at < begin) return false;
    depth += line.startsWith('#repeat ') ? 1 : line === '#end' ? -1 : 0;
    return depth === 0;
  });
  if (count === undefined || end < 0) throw new Error(`${file}:${begin + 1}: an open #repeat`);
  const body = lines.slice(begin + 1, end);
  const times = Number(/^\d+$/.test(count) ? count : (defines[count] ?? 0));
  const copies = Array.from({ length: times }, (_, i) => body.map((line) => line.replaceAll(`$${name}`, `${i}`)));
  return unrolled(file, [...lines.slice(0, begin), ...copies.flat(), ...lines.slice(end + 1)], defines);
}

function expand(directory: string, file: string, defines: Defines): string[] {
  const kept: string[] = [];
  /** For every open `#if`: whether lines are kept inside it. */
  const open: boolean[] = [];
  unrolled(file, readFileSync(join(directory, file), 'utf8').split('\n'), defines).forEach((line, at) => {
    const [, word, rest = ''] = /^#(\w+)\s*(.*)$/.exec(line) ?? [];
    const keeps = open.every(Boolean);
    switch (word) {
      case undefined:
        if (keeps) kept.push(line);
        return;
      case 'include':
        if (keeps) kept.push(...expand(directory, rest.replaceAll('"', ''), defines));
        return;
      case 'if': {
        const name = rest.replace('!', '');
        if (keeps && !(name in defines)) throw new Error(`${file}:${at + 1}: ${name} is not defined`);
        open.push(Boolean(defines[name]) !== rest.startsWith('!'));
        return;
      }
      case 'else':
        open.push(!open.pop());
        return;
      case 'endif':
        open.pop();
        return;
      default:
        throw new Error(`${file}:${at + 1}: #${word} is no directive`);
    }
  });
  if (open.length > 0) throw new Error(`${file}: an #if is not closed`);
  return kept;
}

/** The `Params` struct and the storage bindings of a shader. Throws where they do not follow the rules of this directory. */
export function interfaceOf(file: string, source: string): KernelInterface {
  const body = /struct Params \{([^}]*)\}/.exec(source)?.[1];
  if (body === undefined) throw new Error(`${file}: there is no struct Params`);
  const params = [...body.replaceAll(/\/\/.*|\/\*.*?\*\//g, '').matchAll(/(\w+)\s*:\s*(\w+)/g)].map(
    ([, name, type]) => {
      if (type !== 'u32' && type !== 'i32' && type !== 'f32') throw new Error(`${file}: Params.${name} is ${type}`);
      return { name: name!, type } as ParamField;
    },
  );
  const bindings = [...source.matchAll(/@group\(0\)\s*@binding\((\d+)\)\s*var<(uniform|storage(?:,\s*(\w+))?)>/g)];
  const storage: ('read' | 'read_write')[] = [];
  bindings.forEach(([, index, kind, access = 'read'], at) => {
    if (Number(index) !== at) throw new Error(`${file}: binding ${index} is declared in place ${at}`);
    if ((at === 0) !== (kind === 'uniform')) throw new Error(`${file}: binding ${at} is ${kind}`);
    if (at > 0) storage.push(access as 'read' | 'read_write');
  });
  return { params, storage };
}
