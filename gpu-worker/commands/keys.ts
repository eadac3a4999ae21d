/** Keys: create, list, update, rotate and revoke the API keys of an account. */
import {
  ACCOUNT_FLAG,
  ADMIN_FLAGS,
  AdminClient,
  instant,
  type Json,
  list,
  moment,
  print,
  spanSeconds,
  table,
  tell,
} from '../admin-client.ts';
import type { Command, Flag, Options } from '../command-line.ts';
import { usage } from '../command-line.ts';
import { LIMIT_FLAGS, limitsAndBudget } from '../limit-flags.ts';

const SETTINGS: Readonly<Record<string, Flag>> = {
  name: { kind: 'text', value: 'NAME', help: 'what it is for' },
  scopes: {
    kind: 'text',
    value: 'LIST',
    help: 'client, admin, worker, divided by commas (client)',
    synonyms: ['scope'],
  },
  models: { kind: 'text', value: 'LIST', help: 'models it may use or, as a worker, serve; "any" for all (any)' },
  'allowed-ips': {
    kind: 'text',
    value: 'LIST',
    help: 'addresses and CIDR blocks it may be used from; "any" for all (any)',
  },
  expires: { kind: 'text', value: 'WHEN', help: 'a date, or a span from now such as 30d; "never" (never)' },
  ...LIMIT_FLAGS,
};
const COMMON = { ...ADMIN_FLAGS, ...ACCOUNT_FLAG };
const CALL = '--edge https://your.edge --admin-key K --account ID';

const create: Command = {
  name: 'keys create',
  summary: 'make a key, shown once',
  positionals: [],
  flags: { ...COMMON, ...SETTINGS },
  pending: [],
  examples: [
    `nibble keys create ${CALL} --name production --budget-usd 50 --budget-reset month`,
    `nibble keys create ${CALL} --name gpu-1 --scopes worker --models org/model`,
  ],
  async run(options) {
    shown(options, await new AdminClient(options).call('POST', keysOf(options), settings(options)));
  },
};

const listAll: Command = {
  name: 'keys list',
  summary: 'the keys of an account, without their secrets',
  positionals: [],
  flags: COMMON,
  pending: [],
  examples: [`nibble keys list ${CALL}`],
  async run(options) {
    const keys = await new AdminClient(options).call('GET', keysOf(options));
    print(options, keys, ({ data }) =>
      table(
        ['id', 'key', 'name', 'scopes', 'models', 'spent of budget', 'created', 'expires', 'revoked'],
        data.map((key: Json) => [
          key.id,
          key.redacted,
          key.name,
          key.scopes.join(','),
          key.models?.join(',') ?? 'any',
          key.budget === null ? null : `${key.budget.spent_usd} of ${key.budget.hard_usd ?? key.budget.soft_usd}`,
          moment(key.created),
          moment(key.expires_at),
          moment(key.revoked_at),
        ]),
      ),
    );
  },
};

const update: Command = {
  name: 'keys update',
  summary: 'change a key: what is given, and nothing else',
  positionals: ['KEY_ID'],
  flags: { ...COMMON, ...SETTINGS },
  pending: [],
  examples: [`nibble keys update KEY_ID ${CALL} --models org/model --rpm 60`],
  async run(options) {
    const changes = settings(options);
    if (Object.keys(changes).length === 0) throw usage('there is nothing to change; see --help');
    const key = await new AdminClient(options).call('PATCH', `${keysOf(options)}/${options.positionals[0]}`, changes);
    print(options, key, () => `${key.id} is changed`);
  },
};

const rotate: Command = {
  name: 'keys rotate',
  summary: 'replace a key by a new one, shown once, with the same settings and what is left of its budget',
  positionals: ['KEY_ID'],
  flags: {
    ...COMMON,
    overlap: { kind: 'text', value: 'SPAN', help: 'how long the old key still holds, such as 1h (not at all)' },
  },
  pending: [],
  examples: [`nibble keys rotate KEY_ID ${CALL} --overlap 24h`],
  async run(options) {
    const overlap = options.text('overlap');
    const seconds = overlap === null ? 0 : spanSeconds(overlap);
    if (seconds === null) throw usage(`--overlap is "${overlap}"; a span such as 30m or 24h is needed`);
    const path = `${keysOf(options)}/${options.positionals[0]}/rotate`;
    shown(options, await new AdminClient(options).call('POST', path, { overlap_s: seconds }));
  },
};

const revoke: Command = {
  name: 'keys revoke',
  summary: 'end a key at once',
  positionals: ['KEY_ID'],
  flags: COMMON,
  pending: [],
  examples: [`nibble keys revoke KEY_ID ${CALL}`],
  async run(options) {
    const id = options.positionals[0]!;
    await new AdminClient(options).call('DELETE', `${keysOf(options)}/${id}`);
    print(options, { id, revoked: true }, () => `${id} is revoked`);
  },
};

export const keyCommands: readonly Command[] = [create, listAll, update, rotate, revoke];

function keysOf(options: Options): string {
  return `/accounts/${encodeURIComponent(options.required('account'))}/keys`;
}

/** The API's fields of what was given. */
function settings(options: Options): Record<string, unknown> {
  const [scopes, models, ips] = ['scopes', 'models', 'allowed-ips'].map((name) => list(options, name));
  const [name, expires] = [options.text('name'), options.text('expires')];
  return {
    ...(name !== null && { name }),
    ...(scopes !== undefined && { scopes }),
    ...(models !== undefined && { models }),
    ...(ips !== undefined && { allowed_ips: ips }),
    ...(expires !== null && { expires_at: expires === 'never' ? null : instant('expires', expires, 1) }),
    ...limitsAndBudget(options),
  };
}

function shown(options: Options, key: Json): void {
  print(options, key, () => key.key);
  if (!options.on('json')) tell(`${key.name} (${key.id}): keep it, it is not shown again`);
}
