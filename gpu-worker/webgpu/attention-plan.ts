/** AttentionPlan: which workgroups attend for which tokens of a batch. Pure: runs in, integers for the kernels out. */
import type { Run } from './step-inputs.ts';

export interface AttentionPlan {
  /** Runs for the prefill kernel: [tiles, 8] u32 as paged_attention_prefill.wgsl says; null when there are none. */
  tiles: { words: Uint32Array; count: number } | null;
  /** The other tokens, in turns that share one buffer of partials. */
  turns: readonly DecodeTurn[];
}

export interface DecodeTurn {
  /** [items, 8] u32 as paged_attention_decode.wgsl says */
  items: { words: Uint32Array; count: number };
  /** [merges, 4] u32 as paged_attention_combine.wgsl says; null when no token has several splits. */
  merges: { words: Uint32Array; count: number } | null;
  /** Rows of partials. */
  partials: number;
}

export interface PlanOptions {
  /** Query heads of a kv head. */
  group: number;
  window: number | null;
  /** Positions of a split; splits begin at its multiples. */
  splitTokens: number;
  /** Runs of at least so many tokens take the prefill kernel; null: none does. */
  prefillTokens: number | null;
  /** Most rows of partials of one turn, unless one token has more. */
  mostPartials: number;
}

/** Rows (tokens × heads of a group) of a prefill tile. */
const TILE_ROWS = 64;

export function attentionPlan(runs: readonly Run[], options: PlanOptions): AttentionPlan {
  const isPrefill = (run: Run) => options.prefillTokens !== null && run.tokens >= options.prefillTokens;
  const tiles = runs.filter(isPrefill).flatMap((run) => tilesOf(run, options.group));
  return {
    tiles: tiles.length === 0 ? null : rows(tiles),
    turns: turnsOf(
      runs.filter((run) => !isPrefill(run)),
      options,
    ),
  };
}

function tilesOf({ begin, tokens, position, sequence }: Run, group: number): number[][] {
  const count = Math.ceil((tokens * group) / TILE_ROWS);
  return Array.from({ length: count }, (_, tile) => [begin, tokens, position, sequence, tile, 0, 0, 0]);
}

function turnsOf(runs: readonly Run[], { window, splitTokens, mostPartials }: PlanOptions): DecodeTurn[] {
  const turns: DecodeTurn[] = [];
  let items: number[][] = [];
  let merges: number[][] = [];
  let partials = 0;
  const close = () => {
    if (items.length === 0) return;
    turns.push({ items: rows(items), merges: merges.length === 0 ? null : rows(merges), partials });
    items = [];
    merges = [];
    partials = 0;
  };
  for (const { begin, tokens, position, sequence } of runs)
    for (let at = 0; at < tokens; at++) {
      const [row, own] = [begin + at, position + at];
      const { first, splits } = seen(own, window, splitTokens);
      if (splits > 1 && partials > 0 && partials + splits > mostPartials) close();
      for (let split = 0; split < splits; split++) {
        const start = split === 0 ? first : (Math.floor(first / splitTokens) + split) * splitTokens;
        const end = Math.min((Math.floor(start / splitTokens) + 1) * splitTokens, own + 1);
        items.push([row, sequence, start, end - start, splits, partials + split, own, 0]);
      }
      if (splits === 1) continue;
      merges.push([row, partials, splits, 0]);
      partials += splits;
    }
  close();
  return turns;
}

/** The first position that a token at `own` sees, and the splits that it sees any of. */
function seen(own: number, window: number | null, splitTokens: number): { first: number; splits: number } {
  const first = window === null ? 0 : Math.max(0, own - window + 1);
  return { first, splits: Math.floor(own / splitTokens) - Math.floor(first / splitTokens) + 1 };
}

/** The largest of `choices`, largest first, by which at least `wanted` splits come about; else the smallest. */
export function splitTokensFor(
  runs: readonly Run[],
  window: number | null,
  choices: readonly number[],
  wanted: number,
): number {
  const splitsBy = (splitTokens: number) =>
    runs.reduce(
      (sum, { tokens, position }) => sum + tokens * seen(position + tokens - 1, window, splitTokens).splits,
      0,
    );
  return choices.find((splitTokens) => splitsBy(splitTokens) >= wanted) ?? choices[choices.length - 1]!;
}

function rows(values: readonly number[][]): { words: Uint32Array; count: number } {
  return { words: Uint32Array.from(values.flat()), count: values.length };
}
