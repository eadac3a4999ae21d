/** Report: what a run did, as Markdown. */
import type { LinearReport } from './quantize-model.ts';

export interface Report {
  model: string;
  /** The command's options, as they were taken. */
  settings: Readonly<Record<string, string | number | boolean>>;
  backend: string;
  samples: number;
  tokens: number;
  linears: readonly LinearReport[];
  seconds: number;
  /** With --eval. */
  evaluation: { file: string; tokens: number; before: number; after: number } | null;
}

/** `plot` is the name of the plot's file. */
export function markdownOf(report: Report, plot: string): string {
  const plain = report.linears.filter((linear) => linear.kind === 'plain');
  const quantized = report.linears.filter((linear) => linear.kind === 'quantized');
  return [
    `# Quantization of ${report.model}`,
    '',
    Object.entries(report.settings)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
    '',
    `${report.samples} samples, ${report.tokens} tokens; ${quantized.length} linears in ${report.seconds.toFixed(1)} s on ${report.backend}.`,
    ...(report.evaluation === null ? [] : ['', evaluationLine(report.evaluation)]),
    '',
    `![error per layer](${plot})`,
    '',
    'The error is √(tr((W−Ŵ)H(W−Ŵ)ᵀ) / tr(WHWᵀ)): how far the outputs on the calibration data are off. The damping is what the factorisation took, of the mean diagonal.',
    '',
    '| linear | shape | error | squared error | damping | seconds |',
    '| --- | --- | --- | --- | --- | --- |',
    ...quantized.map(
      (linear) =>
        `| ${linear.name} | ${linear.rows} × ${linear.columns} | ${(linear.relativeError * 100).toFixed(3)}% | ${linear.squaredError.toExponential(3)} | ${linear.damping} | ${linear.seconds.toFixed(2)} |`,
    ),
    ...(plain.length === 0
      ? []
      : ['', `${plain.length} linears stay plain:`, '', ...plain.map(({ name, reason }) => `- ${name}: ${reason}`)]),
    '',
  ].join('\n');
}

export function evaluationLine({ file, tokens, before, after }: NonNullable<Report['evaluation']>): string {
  const change = (after / before - 1) * 100;
  return `Perplexity on ${file} (${tokens} tokens): ${before.toFixed(4)} before, ${after.toFixed(4)} after (${change >= 0 ? '+' : ''}${change.toFixed(2)}%).`;
}
