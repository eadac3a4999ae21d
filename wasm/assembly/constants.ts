// Masks and factors that hot loops splat once into a local. They are exported mutable globals so that the optimiser cannot fold them:
// an inline v128.const is materialised at every use by V8 and costs 20-30% of a GEMV.

/** Low nibble, low 2 bits and bit 2 of every byte. */
export let nibbleMask: i32 = 0x0f0f0f0f;
export let crumbMask: i32 = 0x03030303;
export let bit2Mask: i32 = 0x04040404;
/** Low byte of every 16-bit lane. */
export let byteMask16: i32 = 0x00ff00ff;
/** An f16 pattern, sign-extended and shifted left by 13, keeps its sign here and nothing of the sign's copies. */
export let halfMask: i32 = 0x8fffffff;
/** 1.5 * 2^23: added to a small f32, it leaves the nearest integer in the lowest bits, half to even. */
export let roundingMagic: f32 = 12582912;
/** 2^112 moves the exponent of such a pattern from f16's bias (15) to f32's (127); exact, subnormals too. */
export let halfFactor: f32 = 5.192296858534828e33;
