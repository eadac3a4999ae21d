/** Cut: a worker's connection to the edge breaks in mid-answer; the engine goes on, and the worker comes back with what the queue lacks. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DEMO, RunningEdge, Spawned } from './running-edge.ts';
import { sseData } from './sse.ts';

/** A TCP proxy whose connections break when a test says so. */
class Wire {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async to(port: number): Promise<Wire> {
    const server = createServer();
    const wire = new Wire(server);
    server.on('connection', (near) => {
      const far = connect(port, '127.0.0.1');
      for (const [socket, other] of [[near, far] as const, [far, near] as const]) {
        wire.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          wire.#sockets.delete(socket);
          other.destroy();
        });
        socket.pipe(other);
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return wire;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}

let edge: RunningEdge;
beforeAll(async () => {
  edge = await RunningEdge.start();
});
afterAll(async () => {
  await edge?.stop();
});

test('a stream whose worker is cut off three times is the undisturbed one, and every token is billed once', async () => {
  const wire = await Wire.to(Number(new URL(edge.url).port));
  const flags = ['--model-id', DEMO, '--served-model-name', 'cut-demo', '--backend', 'reference'];
  const args = ['gpu-worker/cli.ts', 'serve', '--edge', wire.url, '--token', edge.workerToken, ...flags];
  const worker = new Spawned(process.execPath, args);
  try {
    await worker.printed(/linked to/, 60_000);
    const story = { prompt: 'Once upon a time', max_tokens: 250, temperature: 0.8, seed: 3, ignore_eos: true };
    const body = { ...story, model: 'cut-demo', logprobs: 1 };
    const plain = await (await edge.post('/v1/completions', body)).json();
    const response = await edge.post('/v1/completions', { ...body, stream: true });
    let text = '';
    const logprobs: number[] = [];
    let cuts = 0;
    for await (const data of sseData(response)) {
      if (data === '[DONE]') continue;
      const event = JSON.parse(data);
      expect(event.error).toBeUndefined();
      text += event.choices[0]?.text ?? '';
      logprobs.push(...(event.choices[0]?.logprobs?.token_logprobs ?? []));
      if (logprobs.length < 5 + 60 * cuts || cuts === 3) continue;
      wire.cut();
      cuts += 1;
    }
    expect(cuts).toBe(3);
    expect(text).toBe(plain.choices[0].text);
    expect(logprobs).toEqual(plain.choices[0].logprobs.token_logprobs);
    // It went on with the lease it had: nothing was generated twice.
    expect(worker.output.match(/goes on: the queue has/g)?.length).toBeGreaterThan(0);
    const row = await edge.usageOf(response.headers.get('x-request-id')!);
    expect(row).toMatchObject({ status: 'completed', completion_tokens: 250 });
  } finally {
    await worker.end('SIGTERM');
    wire.close();
  }
}, 180_000);
