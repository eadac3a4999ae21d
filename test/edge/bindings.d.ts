/** Bindings: the types of the Worker under test. */
import type { Env as EdgeEnv } from '../../edge/env.ts';

declare global {
  namespace Cloudflare {
    interface Env extends EdgeEnv {
      MODELS: R2Bucket;
      FALLBACK: DurableObjectNamespace<import('../../edge/fallback/object.ts').FallbackObject>;
      /** Files of models/demo/gptq-int4 by name. */
      DEMO_FILES: Fetcher;
      /** Where webhook receivers and Stripe's stand-in are (outside.ts). */
      OUTSIDE: string;
    }
    interface GlobalProps {
      mainModule: typeof import('./worker.ts');
    }
  }
}
