// What a linear multiplies. x [tokens][chunks·32] f32, or as prepare_halves.wgsl leaves it, with factors [tokens] f32: HALVES: [tokens][chunks·4] of eight
// f16 in the format's order; MATRICES: [tokens][chunks·32] f16, whole tiles of tokens, and rowFactors [rows] of linear_row_factors.wgsl.
#if !FACTORS
#if MATRICES
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
// Offsets differ by subgroup_id only, which the analysis does not know for uniform within a subgroup.
diagnostic(off, chromium.subgroup_matrix_uniformity);
@group(0) @binding(next) var<storage, read> x: array<vec4<f16>>;
@group(0) @binding(next) var<storage, read> factors: array<f32>;
@group(0) @binding(next) var<storage, read> rowFactors: array<vec2<f32>>;
#else
#if HALVES
enable f16;
@group(0) @binding(next) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(next) var<storage, read> factors: array<f32>;
#else
@group(0) @binding(next) var<storage, read> x: array<vec4<f32>>;
#endif
#endif
#endif
