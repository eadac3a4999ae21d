/** What becomes of a .wgsl file's directives. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Defines, interfaceOf, shaderSource } from '../../gpu-worker/webgpu/kernel-source.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'kernels-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function written(lines: readonly string[], file = 'kernel.wgsl'): string {
  writeFileSync(join(directory, file), lines.join('\n'));
  return file;
}

function sourceOf(lines: readonly string[], defines: Defines = {}): string[] {
  return shaderSource(written(lines), defines, directory).split('\n');
}

describe('#if', () => {
  const LINES = ['#if A', 'a', '#if !B', 'not b', '#else', 'b', '#endif', '#else', 'no a', '#endif', 'end'];

  test.each([
    [true, true, ['a', 'b', 'end']],
    [true, false, ['a', 'not b', 'end']],
    [false, true, ['no a', 'end']],
    [false, false, ['no a', 'end']],
  ])('A %s, B %s', (A, B, kept) => {
    expect(sourceOf(LINES, { A, B })).toEqual(kept);
  });

  test('a number is on unless it is 0', () => {
    expect(sourceOf(['#if A', 'a', '#endif'], { A: 2 })).toEqual(['const A = 2;', 'a']);
    expect(sourceOf(['#if A', 'a', '#endif'], { A: 0 })).toEqual(['const A = 0;']);
  });

  test('a name that nobody defines is refused with its line, but not where it is skipped', () => {
    expect(() => sourceOf(['x', '#if TYPO', '#endif'])).toThrow('kernel.wgsl:2: TYPO is not defined');
    expect(sourceOf(['#if A', '#if TYPO', 'x', '#endif', '#endif', 'y'], { A: false })).toEqual(['y']);
  });

  test('one that is left open, and a word that is no directive, are refused', () => {
    expect(() => sourceOf(['#if A', 'x'], { A: true })).toThrow('kernel.wgsl: an #if is not closed');
    expect(() => sourceOf(['#ifdef A'], { A: true })).toThrow('kernel.wgsl:1: #ifdef is no directive');
  });
});

describe('#repeat', () => {
  test('writes its lines so often, counted from 0, by a number or a define', () => {
    expect(sourceOf(['#repeat i 2', 'a$i += $iu;', '#end'])).toEqual(['a0 += 0u;', 'a1 += 1u;']);
    expect(sourceOf(['#repeat i N', 'a$i', '#end'], { N: 3 })).toEqual(['const N = 3;', 'a0', 'a1', 'a2']);
  });

  test('inside another: each has its own counter', () => {
    const lines = ['#repeat i 2', 'row $i', '#repeat j 2', 'c$i_$j', '#end', '#end', 'end'];
    expect(sourceOf(lines)).toEqual(['row 0', 'c0_0', 'c0_1', 'row 1', 'c1_0', 'c1_1', 'end']);
  });

  test('may hold an #if, and stand in one that is off, where its count need not be defined', () => {
    expect(sourceOf(['#repeat i 2', '#if A', 'a$i', '#endif', '#end'], { A: true })).toEqual(['a0', 'a1']);
    expect(sourceOf(['#if A', '#repeat i N', 'a$i', '#end', '#endif'], { A: false })).toEqual(['']);
  });

  test('without an end or a count it is refused with its line', () => {
    expect(() => sourceOf(['x', '#repeat i 2', 'a'])).toThrow('kernel.wgsl:2: an open #repeat');
    expect(() => sourceOf(['#repeat i', 'a', '#end'])).toThrow('kernel.wgsl:1: an open #repeat');
  });
});

describe('#include', () => {
  test('puts the file there, with the same defines, unless it stands in an #if that is off', () => {
    written(['#if A', 'with a', '#else', 'without', '#endif'], 'part.wgsl');
    expect(sourceOf(['before', '#include "part.wgsl"', 'after'], { A: true })).toEqual(['before', 'with a', 'after']);
    expect(sourceOf(['#if A', '#include "absent.wgsl"', '#endif', 'x'], { A: false })).toEqual(['x']);
  });

  test('enable lines of every file come first, before the constants', () => {
    written(['enable f16;', 'part'], 'part.wgsl');
    expect(sourceOf(['kernel', '#include "part.wgsl"'], { N: 4 })).toEqual([
      'enable f16;',
      'const N = 4;',
      'kernel',
      'part',
    ]);
  });
});

describe('@binding(next)', () => {
  const HEAD = ['struct Params { count: u32, scale: f32 }', '@group(0) @binding(0) var<uniform> params: Params;'];

  test('counts on from the binding before it, over what an #if leaves out', () => {
    const lines = [
      ...HEAD,
      '@group(0) @binding(next) var<storage, read> a: array<f32>;',
      '#if B',
      '@group(0) @binding(next) var<storage, read> b: array<f32>;',
      '#endif',
      '@group(0) @binding(next) var<storage, read_write> c: array<f32>;',
    ];
    for (const [B, storage] of [
      [true, ['read', 'read', 'read_write']],
      [false, ['read', 'read_write']],
    ] as const) {
      const source = sourceOf(lines, { B }).join('\n');
      expect(interfaceOf('kernel.wgsl', source)).toEqual({
        params: [
          { name: 'count', type: 'u32' },
          { name: 'scale', type: 'f32' },
        ],
        storage,
      });
    }
  });

  test('the interface refuses gaps, a missing Params, and a field that is no number', () => {
    const gap = [...HEAD, '@group(0) @binding(2) var<storage, read> a: array<f32>;'].join('\n');
    expect(() => interfaceOf('k', gap)).toThrow('k: binding 2 is declared in place 1');
    expect(() => interfaceOf('k', 'fn main() {}')).toThrow('k: there is no struct Params');
    expect(() => interfaceOf('k', 'struct Params { a: vec4<f32> }')).toThrow('k: Params.a is vec4');
  });
});
