/**
 * Costs: what requests of 500 tokens make Cloudflare bill, counted in the edge on workerd, as JSON with the counts a request.
 * node scripts/with-node.mjs bench/edge/costs.ts [requests=40] [clients=4] [tokens=500] [stepMs=20] [waitS=660]
 * The wait lets ended jobs be dropped from the queue's storage, ten minutes later: their deletions are rows written too.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { commitOf } from '../../gpu-worker/bench/device.ts';
import { PEER_CACHE } from '../../gpu-worker/bench/peers.ts';
import type { Counts } from './counts.ts';
import { startNibble } from './nibble.ts';
import { ask } from './traffic.ts';

const named = Object.fromEntries(process.argv.slice(2).map((argument) => argument.split('=')));
const setting = (name: string, otherwise: number) => Number(named[name] ?? otherwise);
const settings = {
  requests: setting('requests', 40),
  clients: setting('clients', 4),
  tokens: setting('tokens', 500),
  stepMs: setting('stepMs', 20),
  waitS: setting('waitS', 660),
};

const edge = await startNibble({
  state: join(PEER_CACHE, 'costs'),
  entry: 'bench/edge/counting-entry.ts',
  stepMs: settings.stepMs,
});
try {
  const counts = async () => (await (await fetch(`${edge.target.url}/counts`)).json()) as Record<string, Counts>;
  // What a first request prepares is not of every request.
  await ask(edge.target, 10, true);
  const before = await counts();
  const cpuBeforeS = cpuSeconds(edge.pid);
  const started = performance.now();
  let left = settings.requests;
  await Promise.all(
    Array.from({ length: settings.clients }, async () => {
      while (left-- > 0) await ask(edge.target, settings.tokens, true);
    }),
  );
  const wallS = (performance.now() - started) / 1000;
  const cpuS = cpuSeconds(edge.pid) - cpuBeforeS;
  console.error(
    `${settings.requests} requests took ${wallS.toFixed(1)} s; waiting ${settings.waitS} s for what follows`,
  );
  await new Promise((resolve) => setTimeout(resolve, settings.waitS * 1000));
  const after = await counts();
  const perRequest = Object.fromEntries(
    Object.entries(after).map(([name, own]) => [
      name,
      Object.fromEntries(
        Object.entries(own).map(([what, count]) => [
          what,
          Number(((count - (before[name]?.[what as keyof Counts] ?? 0)) / settings.requests).toFixed(2)),
        ]),
      ),
    ]),
  );
  const cpuMsPerRequest = Number(((1000 * cpuS) / settings.requests).toFixed(1));
  console.log(JSON.stringify({ commit: commitOf(), settings, wallS, cpuMsPerRequest, perRequest }, null, 2));
} finally {
  await edge.stop();
}
process.exit(0);

/** Of workerd as a whole: the stateless handler and the objects. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  // In ticks of a hundredth of a second on every Linux that Node runs on.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
