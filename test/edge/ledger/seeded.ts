/** Seeded: whole random numbers below a bound, the same for the same seed. */
export function seeded(seed: number): (below: number) => number {
  let state = BigInt(seed) + 0x9e3779b97f4a7c15n;
  const mask = (1n << 64n) - 1n;
  return (below) => {
    // splitmix64
    state = (state + 0x9e3779b97f4a7c15n) & mask;
    let mixed = ((state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
    mixed = ((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn) & mask;
    return Number((mixed ^ (mixed >> 31n)) % BigInt(Math.max(1, Math.floor(below))));
  };
}
