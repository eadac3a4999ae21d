/** Journal: what a worker produced, lease by lease and position by position, as JSON lines in a file of its owner's. Token ids: answers to who has the tokenizer; no prompts. */
import { closeSync, createReadStream, openSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { NibbleError } from '../core/errors.ts';
import type { Frame } from '../core/protocol.ts';

/** The first line of every run that writes to the file. */
export interface JournalHead {
  worker: string;
  model: string;
  backend: string;
  started: string;
}

/** `ids[i]` is the token at position `from + i` of the job's answer. */
export interface Produced {
  job: string;
  epoch: number;
  from: number;
  ids: number[];
}

export class Journal {
  readonly #file: number;

  /** Appends to the file, and makes it when it is not there. */
  constructor(path: string, head: JournalHead) {
    this.#file = openSync(path, 'a', 0o600);
    writeSync(this.#file, `\n${JSON.stringify(head)}\n`);
  }

  /**
   * Writes down one step's frames before they are sent, so that whatever a queue accepted is here even when the process is killed.
   * The system keeps what was written; a crash of the machine itself may lose its end.
   */
  append(frames: readonly Frame[]): void {
    let lines = '';
    for (const frame of frames) {
      const { jobId: job, epoch } = frame;
      if (frame.kind === 'tokens')
        lines += `${JSON.stringify({ job, epoch, from: frame.from, ids: frame.tokens.map(({ id }) => id) } satisfies Produced)}\n`;
    }
    if (lines !== '') writeSync(this.#file, lines);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** Every line of a journal in order. A line that a kill cut off is skipped; a file that is no journal is an error. */
export async function* readJournal(path: string): AsyncGenerator<Produced, void> {
  let numHeads = 0;
  for await (const line of createInterface({ input: createReadStream(path, 'utf8') })) {
    if (line === '') continue;
    const entry = parsed(line);
    if (entry === null) continue;
    if ('worker' in entry) numHeads += 1;
    else if (numHeads > 0 && isProduced(entry)) yield entry;
    else break;
  }
  if (numHeads === 0)
    throw new NibbleError({ code: 'file_invalid', file: path, tensor: null, rule: 'is not a journal of nibble serve' });
}

function parsed(line: string): JournalHead | Produced | null {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

function isProduced(entry: object): entry is Produced {
  return 'job' in entry && 'from' in entry && 'ids' in entry && Array.isArray(entry.ids);
}
