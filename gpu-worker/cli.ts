/** Cli: finds the command, runs it, and turns failures into one sentence and an exit code. */
import process from 'node:process';
import { describe, failureOf } from '../core/errors.ts';
import { type Command, helpOf, parseOptions } from './command-line.ts';
import { dequantize } from './commands/dequantize.ts';
import { dev } from './commands/dev.ts';
import { generate } from './commands/generate.ts';
import { inspect } from './commands/inspect.ts';
import { perplexity } from './commands/perplexity.ts';
import { serve } from './commands/serve.ts';
import { weights } from './commands/weights.ts';

const COMMANDS: readonly Command[] = [dev, serve, generate, perplexity, inspect, dequantize, weights];
/** Promised in the interface, built by later work. */
const PENDING = ['quantize', 'bench', 'keys', 'accounts', 'usage'];

const [name, ...args] = process.argv.slice(2);
process.exitCode = await main(name, args);
// A channel to the launcher, a farewell on a socket or what wrangler leaves open must not keep a finished command alive.
process.disconnect?.();
setTimeout(() => process.exit(), 500).unref();

async function main(name: string | undefined, args: readonly string[]): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    console.log(
      [
        'nibble — serve quantized language models',
        '',
        ...COMMANDS.map((c) => `  ${c.name.padEnd(12)}${c.summary}`),
        '',
        'nibble COMMAND --help says more.',
      ].join('\n'),
    );
    return name === undefined ? 2 : 0;
  }
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (command === undefined) {
    console.error(
      PENDING.includes(name)
        ? `nibble ${name} is not supported yet`
        : `nibble: there is no command "${name}"; see nibble --help`,
    );
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
    const failure = failureOf(error);
    console.error(`nibble ${name}: ${describe(failure)}`);
    return failure.code === 'usage' ? 2 : 1;
  }
}
