/** Cli: finds the command, runs it, and turns failures into one sentence and an exit code. */
import process from 'node:process';
import { describe, type Failure, failureOf } from '../core/errors.ts';
import { type Command, helpOf, parseOptions } from './command-line.ts';
import { accountCommands } from './commands/accounts.ts';
import { bench } from './commands/bench.ts';
import { dequantize } from './commands/dequantize.ts';
import { dev } from './commands/dev.ts';
import { generate } from './commands/generate.ts';
import { inspect } from './commands/inspect.ts';
import { keyCommands } from './commands/keys.ts';
import { perplexity } from './commands/perplexity.ts';
import { quantize } from './commands/quantize.ts';
import { reconcile } from './commands/reconcile.ts';
import { serve } from './commands/serve.ts';
import { usageCommand } from './commands/usage.ts';
import { weights } from './commands/weights.ts';

const COMMANDS: readonly Command[] = [
  dev,
  serve,
  generate,
  perplexity,
  inspect,
  quantize,
  dequantize,
  weights,
  bench,
  ...accountCommands,
  ...keyCommands,
  usageCommand,
  reconcile,
];

const [name, args] = commandOf(process.argv.slice(2));
process.exitCode = await main(name, args);
// A channel to the launcher, a farewell on a socket or what wrangler leaves open must not keep a finished command alive.
if (process.connected) process.disconnect?.();
setTimeout(() => process.exit(), 500).unref();

/** A command's name is one word, or two for those that have several actions: `keys create`. */
function commandOf([first, second, ...rest]: string[]): [name: string | undefined, args: string[]] {
  if (second === undefined) return [first, []];
  const both = `${first} ${second}`;
  return COMMANDS.some(({ name }) => name === both) ? [both, rest] : [first, [second, ...rest]];
}

async function main(name: string | undefined, args: readonly string[]): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    console.log(
      [
        'nibble — serve quantized language models',
        '',
        ...COMMANDS.map((c) => `  ${c.name.padEnd(17)}${c.summary}`),
        '',
        'nibble COMMAND --help says more.',
      ].join('\n'),
    );
    return name === undefined ? 2 : 0;
  }
  const command = COMMANDS.find((candidate) => candidate.name === name);
  const actions = COMMANDS.filter((candidate) => candidate.name.startsWith(`${name} `));
  if (command === undefined && actions.length > 0) {
    const asked = args.includes('--help') || args.includes('-h');
    const lines = actions.map((action) => `  nibble ${action.name.padEnd(17)}${action.summary}`).join('\n');
    (asked ? console.log : console.error)(`nibble ${name} needs an action:\n${lines}`);
    return asked ? 0 : 2;
  }
  if (command === undefined) {
    console.error(`nibble: there is no command "${name}"; see nibble --help`);
    return 2;
  }
  if (args.includes('--help') || args.includes('-h')) {
    console.log(helpOf(command));
    return 0;
  }
  try {
    await command.run(parseOptions(command, args, process.env));
    return 0;
  } catch (error) {
    const failure = systemFailure(error) ?? failureOf(error);
    console.error(`nibble ${name}: ${describe(failure)}`);
    return failure.code === 'usage' ? 2 : 1;
  }
}

/** What the system refused, with the place; null for errors of other kinds. */
function systemFailure(error: unknown): Failure | null {
  const { code, path, syscall } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string' || path === undefined) return null;
  return { code: 'file_missing', file: path, reason: `cannot be used: ${code} (${syscall})` };
}
