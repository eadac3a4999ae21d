/** Probe: asks in a process of its own which adapter WebGPU would give, since a broken driver can end a process and Dawn's warnings go straight to stderr. */
import { spawn } from 'node:child_process';
import process from 'node:process';
import { openDevice } from './device.ts';

export interface ProbedAdapter {
  description: string;
  isSoftware: boolean;
}

const TIMEOUT_MS = 30_000;

/** null when there is none, or asking for it crashes or hangs. */
export function probeAdapter(): Promise<ProbedAdapter | null> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [import.meta.filename], {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: TIMEOUT_MS,
    });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.on('error', () => resolve(null));
    child.on('close', (code) => resolve(code === 0 ? (JSON.parse(output) as ProbedAdapter) : null));
  });
}

async function answer(): Promise<void> {
  const { device, description, isSoftware } = await openDevice({ adapter: 'any', precision: 'f32', bounds: 'robust' });
  console.log(JSON.stringify({ description, isSoftware }));
  device.destroy();
}

if (process.argv[1] === import.meta.filename)
  await answer().catch(() => {
    process.exitCode = 1;
  });
