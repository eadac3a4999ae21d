/** Standalone service: what happens to requests and to /health when the model itself fails. */
import { expect, test, vi } from 'vitest';
import { Engine } from '../../core/engine/engine.ts';
import { type Failure, NibbleError } from '../../core/errors.ts';
import type { Graph } from '../../core/model/graph.ts';
import { createApi } from '../../edge/api/app.ts';
import { exposition } from '../../edge/api/prometheus.ts';
import { Metrics } from '../../gpu-worker/standalone/metrics.ts';
import { StandaloneService } from '../../gpu-worker/standalone/service.ts';
import { loadDemo } from './demo-model.ts';

async function serving() {
  const model = await loadDemo('gptq-int4', 'wasm');
  const engine = new Engine(model.graph, model.tokenizer, model.template, {
    maxSequences: 4,
    maxBatchTokens: 64,
    maxCachedTokens: 512,
  });
  const metrics = new Metrics({ maxInputTokens: 511, maxTotalTokens: 512 }, () => performance.now());
  const onBroken = vi.fn<(failure: Failure) => void>();
  const card = model.card('demo', 512);
  const reload = vi.fn<() => Promise<Graph>>().mockResolvedValue(model.graph);
  const service = new StandaloneService(
    { card, engine, backendName: 'wasm', reload },
    { apiKey: null, maxConcurrentRequests: 4, log: () => {}, metrics, onBroken },
  );
  const app = createApi(
    () => service,
    () => service.isHealthy(),
  );
  const fault = (error: Error) =>
    vi.spyOn(model.graph, 'enqueue').mockImplementation(() => {
      throw error;
    });
  const generate = (inputs = 'Once upon') =>
    app.request('/generate', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ inputs, parameters: { max_new_tokens: 3 } }),
    });
  const text = () => exposition(metrics.families({ numWaiting: 0, numRunning: 0, cacheTokens: 512 }));
  return { app, generate, fault, onBroken, reload, text };
}

test('a model that fails makes /health 503 until it answers again', async () => {
  const { app, generate, fault, text } = await serving();
  expect((await app.request('/health')).status).toBe(200);
  const broken = fault(new Error('a kernel failed'));
  const failed = await generate();
  expect([failed.status, await failed.json()]).toEqual([
    424,
    { error: 'Request failed during generation: The model failed on this request.', error_type: 'generation' },
  ]);
  const unhealthy = await app.request('/health');
  expect([unhealthy.status, await unhealthy.json()]).toEqual([503, { error: 'unhealthy', error_type: 'healthcheck' }]);
  broken.mockRestore();
  expect((await app.request('/health')).status).toBe(200);
  expect((await generate()).status).toBe(200);
  expect(text()).toContain('tgi_request_failure{err="generation"} 2\n');
});

test('a request that is wrong itself leaves the server healthy', async () => {
  const { app, generate } = await serving();
  expect((await generate('fox '.repeat(2000))).status).toBe(422);
  expect((await app.request('/health')).status).toBe(200);
});

test('a device that is lost once is opened anew and the answer goes on', async () => {
  const { generate, fault, reload, onBroken } = await serving();
  fault(new NibbleError({ code: 'device_lost', reason: 'unplugged' }));
  reload.mockImplementation(async () => (await loadDemo('gptq-int4', 'wasm')).graph);
  expect((await generate()).status).toBe(200);
  expect(onBroken).not.toHaveBeenCalled();
});

test('a device that stays lost ends its answers by name, /health and new requests are 503, and the server is told', async () => {
  const { app, generate, fault, onBroken, reload } = await serving();
  const lost = new NibbleError({ code: 'device_lost', reason: 'unplugged' });
  fault(lost);
  reload.mockRejectedValue(lost);
  expect((await generate()).status).toBe(500);
  expect(onBroken).toHaveBeenCalledExactlyOnceWith({ code: 'device_lost', reason: 'unplugged' });
  expect((await app.request('/health')).status).toBe(503);
  const refused = await generate();
  expect([refused.status, (await refused.json()).error_type]).toEqual([503, 'unavailable']);
});
