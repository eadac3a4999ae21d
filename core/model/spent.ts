/** Spent: an activation's last use. */
import type { Activation, Backend } from './backend.ts';

/** f(x), after which x is freed. */
export function spent(backend: Backend, x: Activation, f: (x: Activation) => Activation): Activation {
  const y = f(x);
  backend.free(x);
  return y;
}
