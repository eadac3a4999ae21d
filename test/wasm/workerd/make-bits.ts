/** Make bits: writes bits.json from the plain build in Node. Run it when an op's order of summation changes on purpose. */
import { writeFileSync } from 'node:fs';
import { backendOf } from '../kernel-set.ts';
import { bitsOfOps } from './bits.ts';

const bits = await bitsOfOps(() => backendOf('plain'));
writeFileSync(new URL('./bits.json', import.meta.url), `${JSON.stringify(bits, null, 2)}\n`);
