// Healthcheck: asks the server of this container for /health. A worker that is linked to an edge serves nothing itself: it is well while it runs,
// and ends when it can do no more. Plain JavaScript on Node alone.
import { readFileSync } from 'node:fs';
import process from 'node:process';

const [, , ...args] = readFileSync(process.argv[2] ?? '/proc/1/cmdline', 'utf8').split('\0');
const linked = Boolean(process.env.EDGE) || args.some((arg) => arg === '--edge' || arg.startsWith('--edge='));
if (!linked) {
  const at = args.indexOf('--port');
  const given = at >= 0 ? args[at + 1] : args.find((arg) => arg.startsWith('--port='))?.slice('--port='.length);
  const port = given ?? (process.env.PORT || 3000);
  const response = await fetch(`http://127.0.0.1:${port}/health`).catch(() => null);
  process.exitCode = response?.ok ? 0 : 1;
}
