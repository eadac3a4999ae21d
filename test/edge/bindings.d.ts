/** Bindings: the types of the Worker under test. */
import type { Env as EdgeEnv } from '../../edge/env.ts';

declare global {
  namespace Cloudflare {
    interface Env extends EdgeEnv {
      /** Where webhook receivers and Stripe's stand-in are (outside.ts). */
      OUTSIDE: string;
    }
    interface GlobalProps {
      mainModule: typeof import('../../edge/index.ts');
    }
  }
}
