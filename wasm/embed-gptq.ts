/** Embed GPTQ: rows of a symmetric GPTQ table of 4 or 8 bits, channels in order, straight from their octets. */
import { f16ToF32 } from '../core/formats/half.ts';
import type { GptqLinear } from './weights/gptq.ts';
import { OCTET_WORDS } from './weights/octets.ts';
import { denseTable } from './weights.ts';
import type { Workspace } from './workspace.ts';

/** y [ids.length, in] f32 = scale · f16 scale of the group · (q − 2^(bits−1)); the first product is exact. */
export function embedGptq(space: Workspace, table: GptqLinear, ids: Int32Array, scale: number, y: number): void {
  const { memory } = space;
  const { bits, plan, zeros, inFeatures } = table;
  if ((bits !== 4 && bits !== 8) || zeros.kind !== 'symmetric' || plan.channels !== null) {
    denseTable(table);
    return;
  }
  const octetWords = OCTET_WORDS[bits];
  const zero = 2 ** (bits - 1);
  const groupOctets = memory.i32(plan.groupOctets, plan.groups);
  ids.forEach((id, at) => {
    const [block, row] = [id >> 3, id & 7];
    const words = memory.u32(table.q + block * plan.octets * octetWords * 4, plan.octets * octetWords);
    const scales = memory.u16(table.scales + block * plan.groups * 16, plan.groups * 8);
    const target = memory.f32(y + at * inFeatures * 4, inFeatures);
    let octet = 0;
    for (let group = 0; group < plan.groups; group++) {
      const groupScale = f16ToF32(scales[group * 8 + row]!);
      for (const end = octet + groupOctets[group]!; octet < end; octet++)
        for (let c = 0; c < 8; c++) {
          const low = words[octet * octetWords + (bits === 8 ? 8 * (c >> 2) : 0) + row]! >>> (8 * (c & 3));
          const q = bits === 8 ? low & 255 : (low >>> (4 * (c >> 2))) & 15;
          target[octet * 8 + c] = groupScale * (q - zero) * scale;
        }
    }
  });
}
