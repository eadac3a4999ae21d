/** Reporter: the test run as one JSON document: counts, and every failure by file and name. */
import type { TestEvent } from 'node:test/reporters';

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const result = {
    passed: 0,
    failed: 0,
    skipped: 0,
    failures: [] as { file: string; name: string; message: string }[],
  };
  for await (const event of events) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { details, file, name, skip } = event.data;
    if (details.type === 'suite') continue;
    if (skip !== undefined) result.skipped++;
    else if (event.type === 'test:pass') result.passed++;
    else {
      result.failed++;
      const { error } = event.data.details;
      result.failures.push({ file: file ?? '', name, message: String(error.cause ?? error.message).slice(0, 2000) });
    }
  }
  yield `${JSON.stringify(result, null, 2)}\n`;
}
