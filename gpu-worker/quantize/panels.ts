/** Panels: blocks of tokens whose products are summed before they are added to the Hessian. */

/** Two panels of 8 columns and so many tokens, 4 kB each, stay in the first cache. */
const PANEL_TOKENS = 128;

/** First token and count of each block. */
export function panelsOf(tokens: number): [number, number][] {
  return Array.from({ length: Math.ceil(tokens / PANEL_TOKENS) }, (_, i) => [
    i * PANEL_TOKENS,
    Math.min(PANEL_TOKENS, tokens - i * PANEL_TOKENS),
  ]);
}

/** Columns of a Hessian in panels: whole panels of 8. */
export function panelStride(columns: number): number {
  return Math.ceil(columns / 8) * 8;
}
