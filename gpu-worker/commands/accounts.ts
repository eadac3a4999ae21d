/** Accounts: open, list, show, change and credit accounts, and read their audit log. */
import { ADMIN_FLAGS, AdminClient, type Json, moment, print, table } from '../admin-client.ts';
import type { Command, Flag } from '../command-line.ts';
import { usage } from '../command-line.ts';
import { LIMIT_FLAGS, limitsAndBudget } from '../limit-flags.ts';

const SETTINGS: Readonly<Record<string, Flag>> = {
  billing: {
    kind: 'text',
    choices: ['prepaid', 'postpaid'],
    help: 'held by its credit, or by its budget alone (prepaid)',
  },
  'stripe-customer': { kind: 'text', value: 'ID', help: 'whose meters its usage goes to; "none" ends that' },
  ...LIMIT_FLAGS,
};
const CALL = '--edge https://your.edge --admin-key K';
const PAGE = 1000;

const create: Command = {
  name: 'accounts create',
  summary: 'open an account',
  positionals: ['NAME'],
  flags: { ...ADMIN_FLAGS, ...SETTINGS, 'credit-usd': { kind: 'text', value: 'USD', help: 'its first credit (0)' } },
  pending: [],
  examples: [`nibble accounts create "Ada Ltd" ${CALL} --credit-usd 25`],
  async run(options) {
    const credit = options.text('credit-usd');
    const account = await new AdminClient(options).call('POST', '/accounts', {
      name: options.positionals[0],
      ...(credit !== null && { credit_usd: credit }),
      ...settings(options),
    });
    print(options, account, () => account.id);
  },
};

const listAll: Command = {
  name: 'accounts list',
  summary: 'every account',
  positionals: [],
  flags: ADMIN_FLAGS,
  pending: [],
  examples: [`nibble accounts list ${CALL}`],
  async run(options) {
    const client = new AdminClient(options);
    const data: Json[] = [];
    for (let after = ''; ; ) {
      const page = await client.call('GET', `/accounts?limit=${PAGE}${after}`);
      data.push(...page.data);
      if (!page.has_more) break;
      after = `&after=${page.data.at(-1).id}`;
    }
    print(options, { object: 'list', data }, () =>
      table(
        ['id', 'name', 'opened'],
        data.map(({ id, name, created }) => [id, name, moment(created)]),
      ),
    );
  },
};

const show: Command = {
  name: 'accounts show',
  summary: 'credit, limits and budget of an account',
  positionals: ['ID'],
  flags: ADMIN_FLAGS,
  pending: [],
  examples: [`nibble accounts show ID ${CALL}`],
  async run(options) {
    const account = await new AdminClient(options).call('GET', pathOf(options.positionals[0]!));
    print(options, account, sentencesOf);
  },
};

const update: Command = {
  name: 'accounts update',
  summary: 'change an account: what is given, and nothing else',
  positionals: ['ID'],
  flags: { ...ADMIN_FLAGS, ...SETTINGS, name: { kind: 'text', value: 'NAME', help: 'its name' } },
  pending: [],
  examples: [`nibble accounts update ID ${CALL} --budget-usd 100 --budget-reset month --concurrency 50`],
  async run(options) {
    const name = options.text('name');
    const changes = { ...(name !== null && { name }), ...settings(options) };
    if (Object.keys(changes).length === 0) throw usage('there is nothing to change; see --help');
    const account = await new AdminClient(options).call('PATCH', pathOf(options.positionals[0]!), changes);
    print(options, account, sentencesOf);
  },
};

const credit: Command = {
  name: 'accounts credit',
  summary: 'add credit, once for a reference',
  positionals: ['ID', 'USD'],
  flags: {
    ...ADMIN_FLAGS,
    reference: { kind: 'text', value: 'TEXT', help: 'your own id of the payment: sent twice, it is added once' },
    note: { kind: 'text', value: 'TEXT', help: 'kept with it' },
  },
  pending: [],
  examples: [`nibble accounts credit ID 25 ${CALL} --reference invoice-17`],
  async run(options) {
    const [id, usd] = options.positionals;
    const body = { credit_usd: usd, reference: options.text('reference'), note: options.text('note') };
    const account = await new AdminClient(options).call('POST', `${pathOf(id!)}/credits`, body);
    print(options, account, sentencesOf);
  },
};

const audit: Command = {
  name: 'accounts audit',
  summary: 'who changed what, newest first',
  positionals: ['ID'],
  flags: ADMIN_FLAGS,
  pending: [],
  examples: [`nibble accounts audit ID ${CALL}`],
  async run(options) {
    const client = new AdminClient(options);
    const data: Json[] = [];
    for (let before = ''; ; ) {
      const page = await client.call('GET', `${pathOf(options.positionals[0]!)}/audit?limit=${PAGE}${before}`);
      data.push(...page.data);
      if (!page.has_more) break;
      before = `&before=${page.data.at(-1).seq}`;
    }
    print(options, { object: 'list', data }, () =>
      table(
        ['when', 'who', 'what', 'of', 'detail'],
        data.map((entry: Json) => [
          moment(entry.created),
          entry.actor,
          entry.action,
          entry.target,
          JSON.stringify(entry.detail),
        ]),
      ),
    );
  },
};

const feed: Command = {
  name: 'accounts export',
  summary: 'feed the reporting copy again with rows that it lost; those that it has stay',
  positionals: ['ID'],
  flags: {
    ...ADMIN_FLAGS,
    after: { kind: 'integer', minimum: 0, help: 'the seq of the last row that is not sent again (0)' },
  },
  pending: [],
  examples: [`nibble accounts export ID ${CALL} --after 1200`],
  async run(options) {
    const path = `${pathOf(options.positionals[0]!)}/export`;
    const fed = await new AdminClient(options).call('POST', path, { after: options.number('after') ?? 0 });
    print(options, fed, ({ after, last }) => `rows ${after + 1} to ${last} are on their way`);
  },
};

export const accountCommands: readonly Command[] = [create, listAll, show, update, credit, audit, feed];

function pathOf(id: string): string {
  return `/accounts/${encodeURIComponent(id)}`;
}

function settings(options: Parameters<Command['run']>[0]): Record<string, unknown> {
  const [billing, customer] = [options.text('billing'), options.text('stripe-customer')];
  return {
    ...(billing !== null && { billing }),
    ...(customer !== null && { stripe_customer: customer === 'none' ? null : customer }),
    ...limitsAndBudget(options),
  };
}

function sentencesOf(account: Json): string {
  const { limits, budget } = account;
  const lines = [
    `${account.id}  ${account.name} (${account.billing})`,
    `credit ${account.credit_usd} USD, spent ${account.spent_usd}, reserved ${account.reserved_usd}`,
    `at most ${limits.requests_per_min} requests and ${limits.tokens_per_min} tokens a minute, ${limits.concurrency} at once`,
  ];
  if (budget !== null)
    lines.push(
      `budget ${budget.hard_usd ?? 'none'} USD hard, ${budget.soft_usd ?? 'none'} soft, reset: ${budget.reset}; spent ${budget.spent_usd}`,
    );
  return lines.join('\n');
}
