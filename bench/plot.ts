/** Plot: a recorded run as bars in an SVG, ours beside its rivals; for light and dark pages. */
import { readFileSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { findRun, type Recorded, valueIn } from './recorded.ts';

/** Where the README looks for it. */
export const PLOT_FILE = 'docs/wasm-benchmark.svg';

const SHAPES = { '110M': '768,12,2048,12,12,32000', '517M': '1280,24,3456,20,20,32000' };
const RIVALS = ['node-llama-cpp', 'wllama'];
const LABELS: Readonly<Record<string, string>> = {
  nibble: 'Nibble (WebAssembly)',
  'node-llama-cpp': 'llama.cpp (native)',
  wllama: 'llama.cpp (WebAssembly, wllama)',
};
const COLORS: Readonly<Record<string, string>> = { nibble: '#2f81f7', 'node-llama-cpp': '#8b949e', wllama: '#c9a26d' };

const [WIDTH, LEFT, BAR, GAP, GROUP_GAP, TOP] = [760, 250, 18, 4, 34, 56];
const BAR_WIDTH = 400;

interface Group {
  title: string;
  bars: { name: string; value: number }[];
}

/** One group a task and shape, its bars as parts of the group's longest. What the file does not have is left out. */
export function drawPlot(recorded: Recorded): string {
  const groups = Object.entries(SHAPES).flatMap(([size, shape]) => [
    groupOf(recorded, `decode, ${size}`, 'decode', { shape, context: 1 }, 'decode, batch 1'),
    groupOf(recorded, `decode after 1,024 tokens, ${size}`, 'decode', { shape, context: 1024 }, 'decode, batch 1'),
    groupOf(
      recorded,
      `prefill of 512 tokens, ${size}`,
      'prefill',
      { shape, 'prompt tokens': 512 },
      'prefill, 512 tokens',
    ),
  ]);
  const parts: string[] = [];
  let y = TOP;
  for (const group of groups) {
    if (group === null) continue;
    parts.push(text(16, y - 8, group.title, 'title'));
    const longest = Math.max(...group.bars.map(({ value }) => value));
    for (const { name, value } of group.bars) {
      const width = Math.max(1, Math.round((value / longest) * BAR_WIDTH));
      parts.push(
        text(LEFT - 8, y + BAR - 5, LABELS[name]!, 'name'),
        `<rect x="${LEFT}" y="${y}" width="${width}" height="${BAR}" rx="2" fill="${COLORS[name]}"/>`,
        text(LEFT + width + 6, y + BAR - 5, `${value.toLocaleString('en')} tokens/s`, 'value'),
      );
      y += BAR + GAP;
    }
    y += GROUP_GAP;
  }
  const device = recorded.runs[0]?.report.device ?? recorded.machine;
  const [commit] = recorded.runs.map(({ report }) => report.commit);
  const height = y + 4;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Tokens a second of Nibble, llama.cpp and wllama">`,
    '<style>text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.name{text-anchor:end}.note{font-size:11px;fill:#57606a}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9da7b3}}</style>',
    text(16, 22, `Random Llamas, 4-bit weights in groups of 32, one thread: ${escaped(device.split(';')[0]!)}`, 'note'),
    ...parts,
    text(
      16,
      height - 10,
      `Medians of interleaved runs, ${recorded.measured}, commit ${commit}. ${escaped(recorded.note ?? 'Longer is better.')}`,
      'note',
    ),
    '</svg>',
    '',
  ].join('\n');
}

function groupOf(
  recorded: Recorded,
  title: string,
  task: string,
  settings: Record<string, string | number>,
  ours: string,
): Group | null {
  const run = findRun(recorded, task, settings);
  const own = run === null ? null : valueIn(run, ours);
  if (run === null || own === null) return null;
  const rivals = RIVALS.map((name) => ({ name, value: valueIn(run, `${task}, ${name}`) }));
  const measured = rivals.filter((rival): rival is { name: string; value: number } => rival.value !== null);
  return { title, bars: [{ name: 'nibble', value: own }, ...measured] };
}

function text(x: number, y: number, content: string, kind: string): string {
  return `<text x="${x}" y="${y}" class="${kind}">${content}</text>`;
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const file = process.argv[2];
  if (file === undefined) {
    console.error('node bench/plot.ts bench/results/MACHINE.json');
    process.exitCode = 2;
  } else writeFileSync(PLOT_FILE, drawPlot(JSON.parse(readFileSync(file, 'utf8')) as Recorded));
}
