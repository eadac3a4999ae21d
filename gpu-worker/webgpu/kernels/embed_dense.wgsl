// Rows of a plain table by id, times scale: y[t] = W[ids[t]] · factor. Buffers: embed_rows.wgsl, then dense_format.wgsl.
// Reference: embed in core/model/reference.ts.
#include "embed_rows.wgsl"
#include "dense_format.wgsl"
