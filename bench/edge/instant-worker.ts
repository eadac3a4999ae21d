/**
 * Instant worker: takes leases over the real link and answers at once: one message a turn of the loop with a token for each job, as an
 * engine whose steps take no time, or `stepMs`. A program; its parent gives WorkerSettings and may say 'hold' and 'go on'.
 */
import process from 'node:process';
import type { Frame, Job, ModelCard, TokenOut } from '../../core/protocol.ts';
import { Links } from '../../gpu-worker/links.ts';
import { MODEL, TOKEN_TEXT } from './traffic.ts';

const PROMPT_TOKENS = 8;
const CARD: ModelCard = {
  id: MODEL,
  architecture: 'none',
  quantization: null,
  contextTokens: 8192,
  vocabSize: 1000,
  parameters: 0,
  maxTokensPerByte: 1,
  textOverheadTokens: 8,
  chat: { baseTokens: 8, perMessageTokens: 8 },
};
const TOKEN: TokenOut = { id: 7, logprob: -0.5, text: TOKEN_TEXT, special: false, top: [] };

export interface WorkerSettings {
  edge: string;
  token: string;
  credits: number;
  /** Milliseconds of a step; 0: a turn of the loop. */
  stepMs: number;
}

interface Answer {
  epoch: number;
  made: number;
  wanted: number;
}

const answers = new Map<string, Answer>();
/** While held, every answer stops after its first token. */
let isHeld = false;
let isStepping = false;

const { edge, token, credits, stepMs } = JSON.parse(process.argv[2]!) as WorkerSettings;
const links = new Links(
  { edge, token, workerId: 'instant', backend: 'reference', model: CARD, log: (line) => console.error(line) },
  credits,
  {
    onLease(job: Job, epoch: number, emittedIds: readonly number[]) {
      answers.set(job.id, { epoch, made: emittedIds.length, wanted: job.maxNewTokens ?? 16 });
      links.send([{ jobId: job.id, epoch, kind: 'started', promptTokens: PROMPT_TOKENS, cachedTokens: 0 }]);
      step();
    },
    onCancel: (jobId: string) => void answers.delete(jobId),
    onLinked: () => process.send!({ linked: true }),
    onRefused: (error) => {
      console.error(error.message);
      process.exit(1);
    },
  },
);

function step(): void {
  if (isStepping) return;
  isStepping = true;
  const next = () => {
    isStepping = false;
    const frames: Frame[] = [];
    for (const [jobId, answer] of answers) {
      if (isHeld && answer.made > 0) continue;
      const { epoch } = answer;
      frames.push({ jobId, epoch, kind: 'tokens', from: answer.made, tokens: [TOKEN] });
      answer.made += 1;
      if (answer.made < answer.wanted) continue;
      frames.push({ jobId, epoch, kind: 'finished', reason: 'length', tokens: answer.made, text: '' });
      answers.delete(jobId);
    }
    if (frames.length === 0) return;
    links.send(frames);
    step();
  };
  if (stepMs === 0) setImmediate(next);
  else setTimeout(next, stepMs);
}

process.on('message', (message) => {
  isHeld = message === 'hold';
  step();
});
process.on('disconnect', () => process.exit(0));
links.connect();
