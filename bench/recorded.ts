/** Recorded: the form of bench/results/<machine>.json. */
import type { BenchReport } from '../gpu-worker/bench/report.ts';

export interface Recorded {
  machine: string;
  /** ISO 8601, the day the runs ended. */
  measured: string;
  /** What a reader must know of the machine that day; null: nothing. */
  note: string | null;
  runs: readonly RecordedRun[];
}

export interface RecordedRun {
  /** What says the same again: the arguments of `npm run bench --`. */
  command: string;
  /** Processes that wanted a core in the minute before, as the system counts them; null where it was not kept. */
  loadAverage: number | null;
  report: BenchReport;
}

/** The first run of such a task whose settings have these values. */
export function findRun(
  { runs }: Recorded,
  task: string,
  settings: Readonly<Record<string, string | number>>,
): RecordedRun | null {
  const fits = ({ report }: RecordedRun) =>
    report.task === task && Object.entries(settings).every(([name, value]) => report.settings[name] === value);
  return runs.find(fits) ?? null;
}

export function valueIn({ report }: RecordedRun, name: string): number | null {
  return report.results.find((result) => result.name === name)?.value ?? null;
}
