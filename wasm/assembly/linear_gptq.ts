// linear_gptq: linear_chunks with integer weights of 2, 3, 4 or 8 bits, one export a width. Arguments: linear_chunks.ts.

import { linearChunks } from './linear_chunks';

export function linear_gptq2(task: usize, part: i32, parts: i32): void {
  linearChunks(2, task, part, parts);
}

export function linear_gptq3(task: usize, part: i32, parts: i32): void {
  linearChunks(3, task, part, parts);
}

export function linear_gptq4(task: usize, part: i32, parts: i32): void {
  linearChunks(4, task, part, parts);
}

export function linear_gptq8(task: usize, part: i32, parts: i32): void {
  linearChunks(8, task, part, parts);
}
