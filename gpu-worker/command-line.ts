/** CommandLine: flags of a command from arguments and TGI's environment variables; wrong usage is a `usage` failure (exit code 2). */
import { parseArgs } from 'node:util';
import { NibbleError } from '../core/errors.ts';

export interface Flag {
  /** A toggle is on as --name, off as --no-name, and neither when it is absent. */
  kind: 'text' | 'integer' | 'number' | 'switch' | 'toggle';
  help: string;
  /** Other names of the same flag. */
  synonyms?: readonly string[];
  /** Shown for the value in --help. */
  value?: string;
  choices?: readonly string[];
  /** The variable that stands in when the flag is absent, as in TGI's launcher. */
  env?: string;
  minimum?: number;
  /** The one value that is built; another is refused as not supported yet. */
  only?: string;
}

export interface Command {
  name: string;
  summary: string;
  /** What follows the name: `MODEL` or nothing. One that ends in … stands for any number. */
  positionals: readonly string[];
  flags: Readonly<Record<string, Flag>>;
  /** Flags that are promised but not built: named so that they exit 2 and are never ignored. */
  pending: readonly string[];
  examples: readonly string[];
  run(options: Options): Promise<void>;
}

type Value = string | number | boolean;

/** Variables that shells, containers and other programs set for purposes of their own. */
const AMBIENT = new Set(['HOSTNAME', 'PORT', 'REVISION', 'THREADS', 'API_KEY']);

/** A command's checked options. */
export class Options {
  readonly positionals: readonly string[];
  readonly #values: Map<string, Value>;
  readonly #given: ReadonlySet<string>;
  /** `given`: those of `values` that were on the command line. */
  constructor(positionals: readonly string[], values: Map<string, Value>, given: ReadonlySet<string> = new Set()) {
    this.positionals = positionals;
    this.#values = values;
    this.#given = given;
  }
  /** Whether it was on the command line; a variable of the environment may be meant for another program. */
  given(name: string): boolean {
    return this.#given.has(name);
  }
  has(name: string): boolean {
    return this.#values.has(name);
  }
  text(name: string): string | null {
    return (this.#values.get(name) as string | undefined) ?? null;
  }
  number(name: string): number | null {
    return (this.#values.get(name) as number | undefined) ?? null;
  }
  on(name: string): boolean {
    return this.#values.get(name) === true;
  }
  /** null when neither --name nor --no-name was given. */
  toggle(name: string): boolean | null {
    return (this.#values.get(name) as boolean | undefined) ?? null;
  }
  /** The same with another value for one flag. */
  with(name: string, value: Value): Options {
    return new Options(this.positionals, new Map(this.#values).set(name, value), this.#given);
  }
  required(name: string): string {
    const value = this.text(name);
    if (value === null) throw usage(`--${name} is missing`);
    return value;
  }
}

export function usage(reason: string): NibbleError {
  return new NibbleError({ code: 'usage', reason });
}

export function parseOptions(command: Command, args: readonly string[], environment: NodeJS.ProcessEnv): Options {
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: Object.fromEntries(
      [...spellingsOf(command)].map(([spelling, { flag }]) => [
        spelling,
        { type: takesValue(flag) ? ('string' as const) : ('boolean' as const) },
      ]),
    ),
  });
  const spellings = spellingsOf(command);
  const values = new Map<string, Value>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    if (command.pending.includes(token.name)) throw usage(`--${token.name} is not supported yet`);
    const spelling = spellings.get(token.name);
    if (spelling === undefined)
      throw usage(`${token.rawName} is not an option of "nibble ${command.name}"; see --help`);
    const { name, flag, isNegation } = spelling;
    const value = checked(`--${token.name}`, flag, token.value);
    const decided = flag.kind === 'toggle' ? !isNegation : value;
    // The same flag twice: the last one counts, as in shells' habit; but not when its two forms contradict each other.
    if (flag.kind === 'toggle' && values.has(name) && values.get(name) !== decided)
      throw usage(`--${name} and --no-${name} exclude each other`);
    values.set(name, decided);
  }
  const given = new Set(values.keys());
  for (const name of command.pending) {
    const variable = name.toUpperCase().replaceAll('-', '_');
    if (environment[variable] && !AMBIENT.has(variable)) throw usage(`${variable}: --${name} is not supported yet`);
  }
  for (const [name, flag] of Object.entries(command.flags)) {
    const fromEnvironment = flag.env === undefined ? undefined : environment[flag.env];
    if (!values.has(name) && fromEnvironment !== undefined && fromEnvironment !== '')
      values.set(name, checked(flag.env!, flag, takesValue(flag) ? fromEnvironment : undefined));
  }
  const repeats = command.positionals.at(-1)?.endsWith('…') ?? false;
  if (positionals.length > command.positionals.length && !repeats)
    throw usage(`"${positionals[command.positionals.length]}" was not expected; see --help`);
  if (positionals.length < command.positionals.length - (repeats ? 1 : 0))
    throw usage(`${command.positionals[positionals.length]} is missing; see --help`);
  return new Options(positionals, values, given);
}

interface Spelling {
  name: string;
  flag: Flag;
  isNegation: boolean;
}

/** Every way to write every flag. */
function spellingsOf(command: Command): Map<string, Spelling> {
  const spellings = new Map<string, Spelling>();
  for (const [name, flag] of Object.entries(command.flags))
    for (const spelling of [name, ...(flag.synonyms ?? [])]) {
      spellings.set(spelling, { name, flag, isNegation: false });
      if (flag.kind === 'toggle') spellings.set(`no-${spelling}`, { name, flag, isNegation: true });
    }
  return spellings;
}

function takesValue(flag: Flag): boolean {
  return flag.kind !== 'switch' && flag.kind !== 'toggle';
}

function checked(label: string, flag: Flag, value: string | undefined): Value {
  if (!takesValue(flag)) {
    if (value !== undefined) throw usage(`${label} takes no value`);
    return true;
  }
  if (value === undefined) throw usage(`${label} needs a value`);
  if (flag.choices !== undefined && !flag.choices.includes(value))
    throw usage(`${label} is "${value}"; it is one of ${flag.choices.join(', ')}`);
  if (flag.only !== undefined && value !== flag.only) throw usage(`${label} ${value} is not supported yet`);
  if (flag.kind === 'text') return value;
  const number = value.trim() === '' ? Number.NaN : Number(value);
  if (!Number.isFinite(number) || (flag.kind === 'integer' && !Number.isSafeInteger(number)))
    throw usage(`${label} is "${value}"; ${flag.kind === 'integer' ? 'a whole number' : 'a number'} is needed`);
  if (flag.minimum !== undefined && number < flag.minimum)
    throw usage(`${label} is ${value}; it must be at least ${flag.minimum}`);
  return number;
}

export function helpOf(command: Command): string {
  const rows = Object.entries(command.flags).map(([name, flag]) => {
    const value = takesValue(flag) ? ` ${flag.value ?? flag.choices?.join('|') ?? flag.kind.toUpperCase()}` : '';
    const names = [name, ...(flag.synonyms ?? []), ...(flag.kind === 'toggle' ? [`no-${name}`] : [])];
    return {
      left: `  ${names.map((spelling) => `--${spelling}`).join('/')}${value}`,
      right: flag.help + (flag.env === undefined ? '' : ` [${flag.env}]`),
    };
  });
  const width = Math.min(34, Math.max(...rows.map(({ left }) => left.length)));
  const lines = rows.map(({ left, right }) =>
    left.length > width ? `${left}\n${' '.repeat(width)}  ${right}` : `${left.padEnd(width)}  ${right}`,
  );
  return [
    `nibble ${[command.name, ...command.positionals].join(' ')} — ${command.summary}`,
    '',
    ...lines,
    ...(command.pending.length === 0
      ? []
      : ['', `Not supported yet: ${command.pending.map((name) => `--${name}`).join(' ')}`]),
    '',
    'Examples:',
    ...command.examples.map((example) => `  ${example}`),
  ].join('\n');
}
