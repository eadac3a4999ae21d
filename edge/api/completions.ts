/** Completions: POST /v1/completions. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { type AnswerFormat, answer } from './openai-answer.ts';
import { codePoints, completionLogprobs } from './openai-logprobs.ts';
import { completionJob } from './openai-request.ts';
import { Completion, CompletionRequest } from './openai-schema.ts';
import { completionPath } from './openapi.ts';
import { refuse } from './refusal.ts';
import { type ApiEnv, authenticated, type Resolve } from './request.ts';

const completion: AnswerFormat = {
  idPrefix: 'cmpl-',
  object: 'text_completion',
  choice: (text, tokens, finishReason) => ({
    index: 0,
    text,
    logprobs: tokens === null ? null : completionLogprobs(tokens, 0),
    finish_reason: finishReason,
  }),
  chunks: (logprobs) => {
    let textOffset = 0;
    return {
      object: 'text_completion',
      opening: null,
      delta: (text, token) => {
        const offset = textOffset;
        textOffset += codePoints(text);
        return {
          index: 0,
          text,
          logprobs: logprobs && token !== null ? completionLogprobs([token], offset) : null,
          finish_reason: null,
        };
      },
      ending: (finishReason) => ({ index: 0, text: '', logprobs: null, finish_reason: finishReason }),
    };
  },
};

export function completionRoutes(resolve: Resolve): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  app.openAPIRegistry.registerPath(completionPath('/v1/completions', 'Continue a text', CompletionRequest, Completion));
  app.post('/v1/completions', authenticated(resolve, refuse), (c) => answer(c, completionJob, completion));
  return app;
}
