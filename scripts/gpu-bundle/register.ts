/** Register: lets the tests' `vitest` mean the small runner beside this file. */
import { registerHooks } from 'node:module';

registerHooks({
  resolve: (specifier, context, next) =>
    next(specifier === 'vitest' ? new URL('./vitest.ts', import.meta.url).href : specifier, context),
});
