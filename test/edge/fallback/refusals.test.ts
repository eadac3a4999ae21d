/** Refusals: what the fallback cannot run is refused when it is switched on, with the numbers, before a tensor is read. */
import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import { PROTOCOL_VERSION } from '../../../core/protocol.ts';
import { ADMIN_KEY, call, newModel } from '../edge-under-test.ts';
import { demoWithFallback } from './demo-model.ts';

async function refusalOf(model: string): Promise<{ status: number; message: string }> {
  const response = await call('PUT', `/admin/models/${model}`, ADMIN_KEY, { fallback: 'always' });
  const { error } = await response.json<{ error: { message: string } }>();
  return { status: response.status, message: error.message };
}

/** A safetensors file of one f16 table of zeros, as long as its header says. */
function zeros(name: string, rows: number, cols: number): { length: number; stream: ReadableStream } {
  const dataBytes = rows * cols * 2;
  const header = JSON.stringify({ [name]: { dtype: 'F16', shape: [rows, cols], data_offsets: [0, dataBytes] } });
  const head = new Uint8Array(8 + header.length);
  new DataView(head.buffer).setBigUint64(0, BigInt(header.length), true);
  head.set(new TextEncoder().encode(header), 8);
  const length = head.length + dataBytes;
  const { readable, writable } = new FixedLengthStream(length);
  const write = async () => {
    const writer = writable.getWriter();
    await writer.write(head);
    const block = new Uint8Array(1 << 20);
    for (let left = dataBytes; left > 0; left -= block.length) await writer.write(block.subarray(0, left));
    await writer.close();
  };
  void write();
  return { length, stream: readable };
}

test('a model whose weights, keys and values and heap exceed 96 MB is refused with each number', async () => {
  const model = 'demo/too-large';
  for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json']) {
    const response = await env.DEMO_FILES.fetch(`http://files/${file}`);
    const text = await response.text();
    const body =
      file === 'config.json'
        ? JSON.stringify({ ...JSON.parse(text), vocab_size: 90_000, hidden_size: 1024, quantization_config: undefined })
        : text;
    await env.MODELS.put(`models/${model}/${file}`, body);
  }
  await env.MODELS.put(`models/${model}/model.safetensors`, zeros('model.embed_tokens.weight', 90_000, 1024).stream);
  const { status, message } = await refusalOf(model);
  expect(status).toBe(400);
  // 90,000 · 1,024 values of 8 bits, an f16 scale for each 32, an f32 bias a row.
  const weightBytes = 92_160_000 + 2_880_000 * 2 + 90_000 * 4;
  expect(message).toContain(`${weightBytes} of weights with embedding and head in 8 bits`);
  expect(message).toMatch(
    /would need \d+ bytes and has 96000000: .* keys and values for 512 tokens, .* JavaScript heap/,
  );
});

test('a model that is not in the bucket is refused by the file that is missing', async () => {
  expect(await refusalOf('demo/nowhere')).toEqual({
    status: 400,
    message: 'models/demo/nowhere: there is no config.json',
  });
});

test('a file that is no safetensors file is refused by its rule', async () => {
  const model = await demoWithFallback('demo/broken', 'never');
  await env.MODELS.put(`models/${model}/model.safetensors`, 'not a model');
  expect((await refusalOf(model)).message).toMatch(/^models\/demo\/broken\/model.safetensors: claims a header of/);
});

test('a worker may not call itself the fallback', async () => {
  const model = newModel();
  const response = await env.QUEUE.getByName(`${model.id}#0`).fetch(
    `https://queue/link?model=${encodeURIComponent(model.id)}`,
    { headers: { upgrade: 'websocket' } },
  );
  const socket = response.webSocket!;
  socket.accept();
  const answer = new Promise<string>((resolve) =>
    socket.addEventListener('message', ({ data }) => resolve(data as string)),
  );
  const hello = { protocol: PROTOCOL_VERSION, workerId: 'w', backend: 'edge-wasm', model, credits: 1, leases: [] };
  socket.send(JSON.stringify({ type: 'hello', ...hello }));
  expect(JSON.parse(await answer)).toMatchObject({
    type: 'refused',
    failure: { code: 'invalid_request', param: 'backend' },
  });
});

test('a model body without a price and without a policy, or with half a price, is refused', async () => {
  for (const body of [{}, { prompt_micro_usd_per_mtok: 1 }, { fallback: 'sometimes' }])
    expect((await call('PUT', '/admin/models/any', ADMIN_KEY, body)).status).toBe(400);
});
