/** LimitFlags: limits and budgets of accounts and keys, from flags to the admin API's fields. */
import type { Flag, Options } from './command-line.ts';
import { usage } from './command-line.ts';

export const LIMIT_FLAGS: Readonly<Record<string, Flag>> = {
  'requests-per-min': { kind: 'integer', minimum: 0, help: 'requests a minute', synonyms: ['rpm'] },
  'tokens-per-min': { kind: 'integer', minimum: 0, help: 'tokens a minute, of prompts and answers', synonyms: ['tpm'] },
  concurrency: { kind: 'integer', minimum: 0, help: 'requests at once' },
  'budget-usd': { kind: 'text', value: 'USD', help: 'hard budget: what is never passed; "none" removes the budget' },
  'soft-budget-usd': { kind: 'text', value: 'USD', help: 'soft budget: a webhook tells when it is reached' },
  'budget-reset': {
    kind: 'text',
    value: 'WHEN',
    help: 'never, day, week, month (UTC), or a rolling window such as 5h or 30d (never)',
  },
};

/** `limits` and `budget` as far as they were given. */
export function limitsAndBudget(options: Options): Record<string, unknown> {
  const limits = Object.fromEntries(
    ['requests-per-min', 'tokens-per-min', 'concurrency'].flatMap((name) => {
      const value = options.number(name);
      return value === null ? [] : [[name.replaceAll('-', '_'), value]];
    }),
  );
  return {
    ...(Object.keys(limits).length > 0 && { limits }),
    ...budgetOf(options),
  };
}

function budgetOf(options: Options): Record<string, unknown> {
  const [hard, soft, reset] = ['budget-usd', 'soft-budget-usd', 'budget-reset'].map((name) => options.text(name));
  if (hard === 'none') {
    if (soft !== null || reset !== null)
      throw usage('--budget-usd none goes without --soft-budget-usd and --budget-reset');
    return { budget: null };
  }
  if (hard === null && soft === null) {
    if (reset !== null) throw usage('--budget-reset needs --budget-usd or --soft-budget-usd');
    return {};
  }
  return { budget: { hard_usd: hard, soft_usd: soft, ...(reset !== null && { reset }) } };
}
