// Rows of a gptq table by id, times scale: y[t] = W[ids[t]] · factor. Buffers: embed_rows.wgsl, then gptq_format.wgsl.
// Reference: embed in core/model/reference.ts.
#include "embed_rows.wgsl"
#include "gptq_format.wgsl"
