/** IP: which addresses are in which blocks. */
import { expect, test } from 'vitest';
import { isAllowed, isBlock } from '../../../edge/api/ip.ts';

test.each([
  ['192.0.2.7', '192.0.2.7', true],
  ['192.0.2.7', '192.0.2.8', false],
  ['192.0.2.0/24', '192.0.2.255', true],
  ['192.0.2.0/24', '192.0.3.0', false],
  ['192.0.2.77/24', '192.0.2.1', true],
  ['0.0.0.0/0', '255.255.255.255', true],
  ['0.0.0.0/0', '::1', false],
  ['10.0.0.0/8', '::ffff:10.1.2.3', true],
  ['2001:db8::/32', '2001:db8:ffff::1', true],
  ['2001:db8::/32', '2001:db9::', false],
  ['::/0', '2001:db8::1', true],
  ['::/0', '10.0.0.1', false],
  ['::1', '0:0:0:0:0:0:0:1', true],
  ['64:ff9b::192.0.2.1', '64:ff9b::c000:201', true],
  ['10.0.0.0/8', '', false],
  ['10.0.0.0/8', '10.0.0.1, 10.0.0.2', false],
] as const)('%s holds %s: %s', (block, ip, held) => {
  expect(isBlock(block)).toBe(true);
  expect(isAllowed(['203.0.113.1', block], ip)).toBe(held);
});

test.each([
  '',
  '10.0.0',
  '10.0.0.0/33',
  '010.0.0.1',
  '256.0.0.1',
  '::/129',
  '1::2::3',
  ':::',
  'fe80::1%eth0',
  '10.0.0.0/',
  '1:2:3:4:5:6:7:8:9',
  '::1:2:3:4:5:6:7:8',
])('%j is no block', (text) => {
  expect(isBlock(text)).toBe(false);
});
