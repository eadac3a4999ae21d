// linear_gptq: linear_chunks with integer weights of 2, 3, 4 or 8 bits, one export a width and a kind of zero point. Buffers: linear_chunks.ts.

import { linearChunks } from './linear_chunks';

export function linear_gptq2_sym(q: usize, scale: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  linearChunks(2, false, q, 0, scale, 0, bias, groupOctets, x, xScale, minusSum, y, tokens, rows, groups, octets, chunks);
}

export function linear_gptq2_asym(q: usize, zero: usize, scale: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  linearChunks(2, true, q, 0, scale, zero, bias, groupOctets, x, xScale, minusSum, y, tokens, rows, groups, octets, chunks);
}

export function linear_gptq3_sym(q: usize, scale: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  linearChunks(3, false, q, 0, scale, 0, bias, groupOctets, x, xScale, minusSum, y, tokens, rows, groups, octets, chunks);
}

export function linear_gptq3_asym(q: usize, zero: usize, scale: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  linearChunks(3, true, q, 0, scale, zero, bias, groupOctets, x, xScale, minusSum, y, tokens, rows, groups, octets, chunks);
}

export function linear_gptq4_sym(q: usize, scale: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  linearChunks(4, false, q, 0, scale, 0, bias, groupOctets, x, xScale, minusSum, y, tokens, rows, groups, octets, chunks);
}

export function linear_gptq4_asym(q: usize, zero: usize, scale: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  linearChunks(4, true, q, 0, scale, zero, bias, groupOctets, x, xScale, minusSum, y, tokens, rows, groups, octets, chunks);
}

export function linear_gptq8_sym(q: usize, scale: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  linearChunks(8, false, q, 0, scale, 0, bias, groupOctets, x, xScale, minusSum, y, tokens, rows, groups, octets, chunks);
}

export function linear_gptq8_asym(q: usize, zero: usize, scale: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  linearChunks(8, true, q, 0, scale, zero, bias, groupOctets, x, xScale, minusSum, y, tokens, rows, groups, octets, chunks);
}
