/** Reconcile: compares workers' journals, queues, ledgers and the reporting copy of one edge, and prints any difference by job. */
import { NibbleError } from '../../core/errors.ts';
import { ADMIN_FLAGS, AdminClient, print, table } from '../admin-client.ts';
import { readBooks } from '../books.ts';
import type { Command, Options } from '../command-line.ts';
import { reconcile as compare, type Reconciliation } from '../reconcile.ts';

const SHOWN = 50;

export const reconcile: Command = {
  name: 'reconcile',
  summary: 'compares journals of workers, queues, ledgers and their copy; exit code 1 on a difference',
  positionals: ['JOURNAL…'],
  flags: {
    ...ADMIN_FLAGS,
    journal: { kind: 'text', value: 'FILE', help: 'a journal of "nibble serve --journal"; more of them follow it' },
  },
  pending: [],
  examples: [
    'nibble reconcile --edge https://your.edge --admin-key K',
    'nibble reconcile --edge https://your.edge --admin-key K --journal gpu-1.jsonl gpu-2.jsonl --json',
  ],
  run,
};

async function run(options: Options): Promise<void> {
  const client = new AdminClient(options);
  const first = options.text('journal');
  const journals = [...(first === null ? [] : [first]), ...options.positionals];
  const found = compare(await readBooks((path) => client.call('GET', path), journals));
  print(options, document(found), () => text(found, journals.length));
  const { length } = found.differences;
  if (length > 0)
    throw new NibbleError({
      code: 'conflict',
      reason: `${length} difference${length === 1 ? '' : 's'} between the books, in ${new Set(found.differences.map(({ job }) => job)).size} jobs`,
    });
}

function document(found: Reconciliation) {
  return {
    jobs: found.jobs,
    live_jobs: found.liveJobs,
    ledger_rows: found.ledgerRows,
    export_rows: found.exportRows,
    queue_jobs: found.queueJobs,
    ledger_tokens: found.ledgerTokens,
    accepted_tokens: found.acceptedTokens,
    ledger_tokens_of_kept: found.ledgerTokensOfKept,
    journal_tokens: found.journalTokens,
    divergent_tokens: found.divergentTokens,
    unaccepted: found.unaccepted,
    differences: found.differences,
  };
}

function text(found: Reconciliation, numJournals: number): string {
  const unaccepted = found.unaccepted.reduce((sum, { tokens }) => sum + tokens, 0);
  const lines = [
    `${found.jobs} jobs, ${found.liveJobs} of them live`,
    `ledgers     ${found.ledgerRows} rows, ${found.ledgerTokens} tokens`,
    `export      ${found.exportRows} rows`,
    `queues      ${found.queueJobs} jobs still kept: ${found.acceptedTokens} accepted positions, ${found.ledgerTokensOfKept} booked`,
    numJournals === 0
      ? 'journals    none given'
      : `journals    ${found.journalTokens} positions; ${unaccepted} tokens in ${found.unaccepted.length} leases were produced and not accepted`,
  ];
  if (found.differences.length === 0) return [...lines, 'no difference'].join('\n');
  const rows = found.differences.slice(0, SHOWN).map(({ job, between, reason }) => [job, between, reason]);
  const rest = found.differences.length - rows.length;
  return [...lines, '', table(['job', 'between', 'what'], rows), ...(rest > 0 ? [`and ${rest} more`] : [])].join('\n');
}
