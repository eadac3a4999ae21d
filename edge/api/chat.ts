/** Chat: POST /v1/chat/completions. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { type AnswerFormat, answer } from './openai-answer.ts';
import { chatLogprobs } from './openai-logprobs.ts';
import { chatJob } from './openai-request.ts';
import { ChatCompletion, ChatRequest } from './openai-schema.ts';
import { completionPath } from './openapi.ts';
import { refuse } from './refusal.ts';
import { type ApiEnv, authenticated, type Resolve } from './request.ts';

const chat: AnswerFormat = {
  idPrefix: 'chatcmpl-',
  object: 'chat.completion',
  choice: (text, tokens, finishReason) => ({
    index: 0,
    message: { role: 'assistant', content: text, refusal: null },
    logprobs: tokens === null ? null : chatLogprobs(tokens),
    finish_reason: finishReason,
  }),
  chunks: (logprobs) => ({
    object: 'chat.completion.chunk',
    opening: { index: 0, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null },
    delta: (text, token) => ({
      index: 0,
      delta: { content: text },
      logprobs: logprobs && token !== null ? chatLogprobs([token]) : null,
      finish_reason: null,
    }),
    ending: (finishReason) => ({ index: 0, delta: {}, logprobs: null, finish_reason: finishReason }),
  }),
};

export function chatRoutes(resolve: Resolve): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  app.openAPIRegistry.registerPath(
    completionPath('/v1/chat/completions', 'Answer a conversation', ChatRequest, ChatCompletion),
  );
  app.post('/v1/chat/completions', authenticated(resolve, refuse), (c) => answer(c, chatJob, chat));
  return app;
}
