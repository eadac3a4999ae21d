/** Vitest's names on Node's own test runner, for machines that have nothing but the bundle's Node. */
import { after, before, describe as describeIn, test as testIn } from 'node:test';
import { format } from 'node:util';
import { expect as expectValue } from 'expect';

/** As vitest's: a second argument goes before the message of a failure. */
export const expect = Object.assign(
  (actual: unknown, label?: string) =>
    label === undefined ? expectValue(actual) : labelled(expectValue(actual), label),
  expectValue,
);

function labelled<Matchers extends object>(matchers: Matchers, label: string): Matchers {
  return new Proxy(matchers, {
    get(target, name) {
      const member = Reflect.get(target, name);
      if (typeof member === 'object' && member !== null) return labelled(member, label);
      if (typeof member !== 'function') return member;
      return (...values: unknown[]) => {
        try {
          return member(...values);
        } catch (error) {
          throw new Error(`${label}: ${(error as Error).message}`);
        }
      };
    },
  });
}

export const beforeAll = before;
export const afterAll = after;

/** What a test is given; `skip` ends it where the condition holds. */
interface Context {
  skip(condition: boolean, reason: string): void;
}

class Skipped extends Error {}

const CONTEXT: Context = {
  skip(condition, reason) {
    if (condition) throw new Skipped(reason);
  },
};

type Hook = (context: Context) => unknown;
/** Of the file and of the groups that are being declared, outermost first. A test runs those that were there when it was declared. */
const hooks: Hook[][] = [[]];

export function beforeEach(hook: Hook): void {
  hooks.at(-1)!.push(hook);
}

type Body = (...values: never[]) => unknown;
type Case = readonly unknown[] | unknown;

/** `%i`, `%s`, `%o` in order, as util.format; `$name` from an object. */
function titleOf(title: string, values: readonly unknown[]): string {
  const [first] = values;
  const named = title.replaceAll(/\$(\w+)/g, (whole, name) =>
    first !== null && typeof first === 'object' && name in first ? String((first as never)[name]) : whole,
  );
  const holes = named.match(/%[a-z]/g)?.length ?? 0;
  return format(named, ...values.slice(0, holes));
}

function eachOf(run: (title: string, body: () => unknown) => unknown) {
  return (cases: readonly Case[]) => (title: string, body: Body) => {
    for (const each of cases) {
      const values = Array.isArray(each) ? each : [each];
      run(titleOf(title, values), () => body(...(values as never[])));
    }
  };
}

function withVariants(plain: typeof testIn | typeof describeIn) {
  const run = (title: string, ...rest: unknown[]) => {
    // Vitest's third argument is a timeout, which the bundle does without: a GPU may compile for long.
    const body = rest.find((value) => typeof value === 'function') as (context: Context) => unknown;
    const before = hooks.flat();
    return (plain as typeof testIn)(title, async (own) => {
      try {
        for (const hook of before) await hook(CONTEXT);
        await body(CONTEXT);
      } catch (error) {
        if (!(error instanceof Skipped)) throw error;
        own.skip(error.message);
      }
    });
  };
  const skip = (title: string) => plain(title, { skip: true }, () => {});
  const describeRun = (title: string, body: () => void) =>
    (plain as typeof describeIn)(title, () => {
      hooks.push([]);
      try {
        body();
      } finally {
        hooks.pop();
      }
    });
  const chosen = plain === describeIn ? describeRun : run;
  const skipAll = Object.assign((title: string) => skip(title), {
    each: () => (title: string) => skip(title),
  });
  const variants = Object.assign(chosen, {
    each: eachOf(chosen as never),
    skip,
    skipIf: (condition: unknown) => (condition ? skipAll : variants),
    runIf: (condition: unknown) => (condition ? variants : skipAll),
  });
  return variants as typeof chosen & {
    each: ReturnType<typeof eachOf>;
    skip: typeof skip;
    skipIf(condition: unknown): typeof skipAll;
  };
}

export const describe = withVariants(describeIn);
export const test = withVariants(testIn);
