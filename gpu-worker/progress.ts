/** Progress: a bar on stderr while something long runs; silent when stderr is not a terminal. */
import process from 'node:process';

const WIDTH = 30;

export function progressBar(label: string): (done: number, total: number) => void {
  if (!process.stderr.isTTY) return () => {};
  let shown = -1;
  return (done, total) => {
    const filled = Math.floor((done / total) * WIDTH);
    if (filled === shown && done < total) return;
    shown = filled;
    process.stderr.write(`\r${label} [${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}] ${done}/${total}`);
    if (done >= total) process.stderr.write('\n');
  };
}
