/** Upstream: an OpenAI-shaped model server that answers at once, for the gateways beside ours; a program that tells its port to its parent. */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import process from 'node:process';
import { MODEL, TOKEN_TEXT } from './traffic.ts';

const base = { id: 'chatcmpl-upstream', created: 1_700_000_000, model: MODEL };

const server = createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () => {
    if (request.method !== 'POST') return void response.writeHead(200).end('ok');
    const { max_tokens: count, stream } = JSON.parse(Buffer.concat(parts).toString()) as {
      max_tokens: number;
      stream?: boolean;
    };
    if (stream === true) void streamed(response, count);
    else whole(response, count);
  });
});

function whole(response: ServerResponse, count: number): void {
  const message = { role: 'assistant', content: TOKEN_TEXT.repeat(count) };
  const usage = { prompt_tokens: 8, completion_tokens: count, total_tokens: 8 + count };
  const choices = [{ index: 0, message, finish_reason: 'length' }];
  response
    .writeHead(200, { 'content-type': 'application/json' })
    .end(JSON.stringify({ ...base, object: 'chat.completion', choices, usage }));
}

/** A token an event and a turn of the loop, as a worker sends its steps. */
async function streamed(response: ServerResponse, count: number): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const say = (delta: object, finish: string | null) => {
    const choices = [{ index: 0, delta, finish_reason: finish }];
    response.write(`data: ${JSON.stringify({ ...base, object: 'chat.completion.chunk', choices })}\n\n`);
  };
  say({ role: 'assistant', content: '' }, null);
  for (let i = 0; i < count; i++) {
    say({ content: TOKEN_TEXT }, null);
    await new Promise((resolve) => setImmediate(resolve));
  }
  say({}, 'length');
  response.end('data: [DONE]\n\n');
}

server.keepAliveTimeout = 600_000;
server.listen(0, '127.0.0.1', () => process.send!({ port: (server.address() as AddressInfo).port }));
process.on('disconnect', () => process.exit(0));
