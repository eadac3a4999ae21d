/** LocalS3: miniflare's own S3 in a directory of its own, behind a proxy that counts and spoils. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { DeleteObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { LOCAL_BUCKET, type LocalEdge, startLocalEdge } from '../../../gpu-worker/local-edge.ts';
import { openLocalModel } from '../../../gpu-worker/store/local.ts';
import { type Published, publish } from '../../../gpu-worker/store/publish.ts';
import type { S3Connection } from '../../../gpu-worker/store/s3-bucket.ts';
import { FaultyProxy } from './faulty-proxy.ts';

export const BUCKET = LOCAL_BUCKET;

export class LocalS3 {
  readonly proxy: FaultyProxy;
  /** For the test's files; goes with the server. */
  readonly directory: string;
  readonly #edge: LocalEdge;

  private constructor(edge: LocalEdge, proxy: FaultyProxy, directory: string) {
    this.#edge = edge;
    this.proxy = proxy;
    this.directory = directory;
  }

  static async start(): Promise<LocalS3> {
    const directory = await mkdtemp(join(tmpdir(), 'nibble-s3-'));
    const edge = await startLocalEdge({ port: 0, state: join(directory, 'state'), store: 's3' });
    return new LocalS3(edge, await FaultyProxy.start(edge.s3!), directory);
  }

  /** Without the proxy. */
  get direct(): S3Connection {
    return this.#edge.s3!;
  }

  /** The variables of a program that goes through the proxy. */
  get environment(): Record<string, string> {
    const { endpoint, accessKeyId, secretAccessKey } = this.proxy.connection;
    return {
      AWS_ENDPOINT_URL_S3: endpoint,
      AWS_REGION: 'auto',
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      HUGGINGFACE_HUB_CACHE: join(this.directory, 'disk'),
    };
  }

  async push(path: string, prefix: string): Promise<Published> {
    const files = await openLocalModel(path);
    const address = { bucket: BUCKET, prefix };
    try {
      return await publish(files, address, { s3: this.direct, model: path, quantization: null, onProgress: () => {} });
    } finally {
      await files.close();
    }
  }

  /** An object that somebody deletes. */
  async remove(key: string): Promise<void> {
    const client = new S3Client({
      endpoint: this.direct.endpoint,
      credentials: this.direct,
      region: 'auto',
      forcePathStyle: true,
    });
    await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }));
    client.destroy();
  }

  async stop(): Promise<void> {
    await this.proxy.stop();
    await this.#edge.stop();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** A program that this test starts sees none of its own S3 settings. */
for (const name of ['AWS_PROFILE', 'AWS_SESSION_TOKEN', 'AWS_ENDPOINT_URL', 'WEIGHTS_CACHE']) delete process.env[name];
