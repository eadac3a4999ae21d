/** Outcome: what `nibble quantize` prints when a model is done. */
import { evaluationLine, type Report } from './report.ts';

export interface Outcome {
  out: string;
  bits: number;
  /** Of all weight files. */
  bytes: number;
  report: Report;
  /** The commit on the Hub; null: it was not uploaded. */
  uploaded: string | null;
}

export function outcomeJson({ out, bytes, report, uploaded }: Outcome): object {
  const { samples, tokens, seconds, backend, evaluation } = report;
  const { quantized, plain } = byKind(report);
  return {
    out,
    quantized: quantized.length,
    plain: plain.map(({ name, reason }) => ({ name, reason })),
    bytes,
    samples,
    tokens,
    seconds,
    backend,
    ...(uploaded === null ? {} : { uploaded }),
    linears: quantized.map(({ name, relativeError, squaredError, damping }) => ({
      name,
      relative_error: relativeError,
      squared_error: squaredError,
      damping,
    })),
    ...(evaluation === null ? {} : { perplexity: { before: evaluation.before, after: evaluation.after } }),
  };
}

export function outcomeText({ out, bits, bytes, report }: Outcome): string {
  const { quantized, plain } = byKind(report);
  const worst = quantized.reduce((most, { relativeError }) => Math.max(most, relativeError), 0);
  return [
    `${out}: ${quantized.length} linears in ${bits} bits (worst error ${(worst * 100).toFixed(2)}%), ${bytes} bytes, ${report.seconds.toFixed(1)} s`,
    ...(plain.length === 0
      ? []
      : [`${plain.length} linears stay plain: ${plain[0]!.name}: ${plain[0]!.reason}${plain.length > 1 ? ', …' : ''}`]),
    ...(report.evaluation === null ? [] : [evaluationLine(report.evaluation)]),
  ].join('\n');
}

function byKind({ linears }: Report) {
  return {
    quantized: linears.filter((linear) => linear.kind === 'quantized'),
    plain: linears.filter((linear) => linear.kind === 'plain'),
  };
}
