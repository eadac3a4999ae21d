// The solver's kernel set: every export of nibble-solver.wasm, for `nibble quantize`. Shared memory; several threads call it on blocks of their own.

export { energy } from './solver_energy';
export { factor } from './solver_factor';
export { grid_rows } from './solver_grid';
export { pack_panels, syrk } from './solver_hessian';
export { sweep } from './solver_sweep';
export { scatter_levels, transpose_rows } from './solver_rows';
