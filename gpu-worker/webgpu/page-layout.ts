/** PageLayout: where a token's keys and values lie in their buffers; kernels/kv_pages.wgsl reads by it and kernels/rope_kv.wgsl writes by it. */
import type { KvDtype, KvShape } from '../../core/model/backend.ts';
import type { Defines } from './kernel-source.ts';

/** Channels that a kernel loads at once. */
export const PIECE_CHANNELS = 8;
/** Buffers that one plane (a layer's keys, or its values) may be cut into; kernels bind both. */
const MAX_BANKS = 2;

/** A plane is [pages, kvHeads] blocks of `blockPieces`; where a plane is cut, whole pages go to each bank. */
export interface PageLayout {
  dtype: KvDtype;
  /** Pieces of a head's row, its last one filled up with zeros. */
  pieces: number;
  /** 32 (f32), 16 (f16, two to a word, the even channel low) or 8 (int8, four to a word, the first lowest). */
  pieceBytes: number;
  /** One head of one page: keys [pieces, pageTokens], values [pageTokens, pieces], and for int8 then [pageTokens] f32 scales. */
  blockPieces: number;
  pageBytes: number;
}

export function pageLayout({
  kvHeads,
  headDim,
  pageTokens,
  dtype,
}: Pick<KvShape, 'kvHeads' | 'headDim' | 'pageTokens' | 'dtype'>): PageLayout {
  const pieces = Math.ceil(headDim / PIECE_CHANNELS);
  const pieceBytes = { f32: 32, f16: 16, int8: 8 }[dtype];
  const scalePieces = dtype === 'int8' ? Math.ceil((4 * pageTokens) / pieceBytes) : 0;
  const blockPieces = pieces * pageTokens + scalePieces;
  return { dtype, pieces, pieceBytes, blockPieces, pageBytes: kvHeads * blockPieces * pieceBytes };
}

/** Pages that a layer can have where a buffer may bind `bindingBytes`. */
export function mostPages({ pageBytes }: PageLayout, bindingBytes: number): number {
  return MAX_BANKS * Math.floor(bindingBytes / pageBytes);
}

/** Pages in each bank of a plane. */
export function bankSizes({ pageBytes }: PageLayout, pages: number, bindingBytes: number): number[] {
  const first = Math.min(pages, Math.floor(bindingBytes / pageBytes));
  return first === pages ? [pages] : [first, pages - first];
}

/** One layer's planes, each in as many buffers as there are banks. */
export interface LayerPages {
  keys: GPUBuffer[];
  values: GPUBuffer[];
}

/** What kernels must know of the pages. */
export interface PlacedPages {
  shape: KvShape;
  layout: PageLayout;
  /** Pages in each bank. */
  bankPages: readonly number[];
}

export function pageDefines({ layout: { dtype }, bankPages }: PlacedPages): Defines {
  return { F16: dtype === 'f16', INT8: dtype === 'int8', BANKED: bankPages.length > 1 };
}

/** As kernels bind them: the first banks, then the second. */
export function inTurn({ keys, values }: LayerPages): GPUBuffer[] {
  return keys.flatMap((buffer, bank) => [buffer, values[bank]!]);
}
