/** IP: addresses and CIDR blocks of both families, and whether one is in another. Pure; what cannot be read matches nothing. */

interface Address {
  bits: 32 | 128;
  value: bigint;
}

/** Whether `text` is an address or a block: "192.0.2.7", "10.0.0.0/8", "2001:db8::/32". */
export function isBlock(text: string): boolean {
  return blockOf(text) !== null;
}

export function isAllowed(blocks: readonly string[], ip: string): boolean {
  const address = addressOf(ip);
  if (address === null) return false;
  return blocks.some((text) => {
    const block = blockOf(text);
    if (block === null || block.bits !== address.bits) return false;
    const shift = BigInt(block.bits - block.prefix);
    return block.value >> shift === address.value >> shift;
  });
}

function blockOf(text: string): (Address & { prefix: number }) | null {
  const match = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text);
  const address = match === null ? null : addressOf(match[1]!);
  if (address === null) return null;
  const prefix = match![2] === undefined ? address.bits : Number(match![2]);
  return prefix > address.bits ? null : { ...address, prefix };
}

/** An IPv6 address that stands for an IPv4 one is read as that. */
function addressOf(text: string): Address | null {
  const short = v4(text);
  if (short !== null) return { bits: 32, value: short };
  const long = v6(text);
  if (long === null) return null;
  return long >> 32n === 0xffffn ? { bits: 32, value: long & 0xffff_ffffn } : { bits: 128, value: long };
}

function v4(text: string): bigint | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  const bytes = match.slice(1).map(Number);
  // "010" is eight to some readers and ten to others.
  if (bytes.some((byte, at) => byte > 255 || String(byte) !== match[at + 1])) return null;
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function v6(text: string): bigint | null {
  if (text.length > 45 || !/^[0-9A-Fa-f:.]+$/.test(text)) return null;
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const [head, tail] = halves.map(wordsOf);
  if (head === null || tail === null || head === undefined) return null;
  const given = head.length + (tail?.length ?? 0);
  if (tail === undefined ? given !== 8 : given > 7) return null;
  const words = tail === undefined ? head : [...head, ...Array<bigint>(8 - given).fill(0n), ...tail];
  return words.reduce((value, word) => (value << 16n) | word, 0n);
}

/** The 16-bit words of one side of "::"; the last two may be written as an IPv4 address. */
function wordsOf(text: string): bigint[] | null {
  if (text === '') return [];
  const words: bigint[] = [];
  const parts = text.split(':');
  for (const [at, part] of parts.entries()) {
    const short = at === parts.length - 1 ? v4(part) : null;
    if (short !== null) words.push(short >> 16n, short & 0xffffn);
    else if (/^[0-9A-Fa-f]{1,4}$/.test(part)) words.push(BigInt(`0x${part}`));
    else return null;
  }
  return words;
}
