// Eight weights of a row as f16 pairs, and their products with eight activations, summed in f16.
struct Halves { a: vec2<f16>, b: vec2<f16>, c: vec2<f16>, d: vec2<f16> }

fn dotOfHalves(x: vec4<u32>, w: Halves) -> f32 {
  let sum = bitcast<vec2<f16>>(x.x) * w.a + bitcast<vec2<f16>>(x.y) * w.b + bitcast<vec2<f16>>(x.z) * w.c + bitcast<vec2<f16>>(x.w) * w.d;
  return f32(sum.x + sum.y);
}
