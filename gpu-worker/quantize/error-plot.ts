/** ErrorPlot: each linear's relative error by layer, as an SVG. */
import type { LinearReport } from './quantize-model.ts';

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [900, 420, 64, 150, 40, 48];
/** Okabe and Ito's colours, told apart by everyone. */
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9', '#f0e442', '#000000'];

type Quantized = Extract<LinearReport, { kind: 'quantized' }>;

export function errorPlot(reports: readonly LinearReport[], title: string): string {
  const quantized = reports.filter((report): report is Quantized => report.kind === 'quantized');
  const roles = [...new Set(quantized.map(roleOf))];
  const layers = 1 + Math.max(0, ...quantized.map(({ layer }) => layer));
  const top = niceCeiling(Math.max(1e-9, ...quantized.map(({ relativeError }) => relativeError)));
  const x = (layer: number) => LEFT + ((layer + 0.5) / layers) * (WIDTH - LEFT - RIGHT);
  const y = (error: number) => HEIGHT - BOTTOM - (error / top) * (HEIGHT - TOP - BOTTOM);
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${LEFT}" y="22" font-size="15">${escaped(title)}</text>`,
  ];
  for (let step = 0; step <= 4; step++) {
    const value = (top * step) / 4;
    lines.push(
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}" stroke="#ddd"/>`,
      `<text x="${LEFT - 8}" y="${y(value) + 4}" text-anchor="end">${Number((value * 100).toPrecision(3))}%</text>`,
    );
  }
  const every = Math.ceil(layers / 20);
  for (let layer = 0; layer < layers; layer += every)
    lines.push(`<text x="${x(layer)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${layer}</text>`);
  lines.push(`<text x="${LEFT}" y="${HEIGHT - 10}">layer; error of the outputs on the calibration data</text>`);
  for (const [index, role] of roles.entries()) {
    const colour = COLOURS[index % COLOURS.length]!;
    const own = quantized.filter((report) => roleOf(report) === role);
    const points = own.map(({ layer, relativeError }) => `${x(layer).toFixed(1)},${y(relativeError).toFixed(1)}`);
    lines.push(`<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="1.5"/>`);
    for (const point of points) {
      const [cx, cy] = point.split(',');
      lines.push(`<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`);
    }
    lines.push(`<text x="${WIDTH - RIGHT + 12}" y="${TOP + 8 + index * 18}" fill="${colour}">${escaped(role)}</text>`);
  }
  return `${lines.join('\n')}\n</svg>\n`;
}

/** A linear's name without its layer. */
function roleOf({ name, layer }: LinearReport): string {
  const after = name.split(`.${layer}.`).slice(1).join(`.${layer}.`);
  return after === '' ? name : after;
}

/** 1, 2 or 5 times a power of ten. */
function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= value) ?? 10);
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
