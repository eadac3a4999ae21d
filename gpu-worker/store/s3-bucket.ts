/** S3Bucket: the objects of one bucket of AWS S3, R2, MinIO or another S3 endpoint; every request with retries. */
import { createHash } from 'node:crypto';
import process from 'node:process';
import type { Readable } from 'node:stream';
import {
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { NibbleError } from '../../core/errors.ts';
import { withRetries } from './retry.ts';
import { formatS3 } from './s3-address.ts';
import { isElsewhere, mayPass, ShortAnswer, s3Failure, statusOf } from './s3-failure.ts';
import { uploadParts } from './s3-upload.ts';

export interface S3Object {
  key: string;
  bytes: number;
  etag: string;
}

/** A read that gives no byte for so long is broken off and tried again. */
const STALL_MS = 30_000;
const CONNECT_MS = 10_000;
/** Every S3 endpoint takes it: AWS looks buckets up, R2 and MinIO ignore it. */
const DEFAULT_REGION = 'us-east-1';

/** An endpoint with its key; null stands for what the AWS SDK finds by itself. */
export interface S3Connection {
  endpoint: string;
  accessKeyId: string;
  secretAccessKey: string;
}

export class S3Bucket {
  readonly name: string;
  /** null: Amazon's, or one from a profile. */
  readonly endpoint: string | null;
  readonly #client: S3Client;

  /**
   * Without a connection, endpoint, region, profile and credentials are the AWS SDK's own (AWS_ENDPOINT_URL_S3, AWS_REGION,
   * AWS_ACCESS_KEY_ID … or a profile or role). An endpoint that is not Amazon's is asked by path, https://endpoint/bucket/key, unless
   * S3_FORCE_PATH_STYLE=false.
   */
  constructor(name: string, connection: S3Connection | null) {
    this.name = name;
    this.endpoint = connection?.endpoint ?? (process.env.AWS_ENDPOINT_URL_S3 || process.env.AWS_ENDPOINT_URL || null);
    if (this.endpoint !== null && !/^https?:\/\/./.test(this.endpoint))
      throw new NibbleError({
        code: 'file_missing',
        file: this.address(''),
        reason: `the endpoint "${this.endpoint}" is no http(s) URL (see AWS_ENDPOINT_URL_S3)`,
      });
    this.#client = new S3Client({
      ...(connection === null ? {} : { endpoint: connection.endpoint, credentials: connection }),
      forcePathStyle: this.endpoint !== null && process.env.S3_FORCE_PATH_STYLE !== 'false',
      region: connection === null ? regionOf : DEFAULT_REGION,
      // Amazon says in which region a bucket lies; who has not set AWS_REGION need not know it.
      followRegionRedirects: true,
      // Retries are this file's: a range goes on where it broke off.
      maxAttempts: 1,
      // Not every endpoint knows the SDK's own checksums; Content-MD5 guards what is sent and the manifest what is read.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: { connectionTimeout: CONNECT_MS },
    });
  }

  address(key: string): string {
    return formatS3({ bucket: this.name, prefix: key });
  }

  /** Fills `into` from `offset`. A broken answer is asked for again from where it broke. `etag` null: whatever version is there. */
  async readRange(key: string, etag: string | null, offset: number, into: Uint8Array): Promise<void> {
    let filled = 0;
    await this.#tried(key, 'read', async () => {
      const stalled = new AbortController();
      const timer = setTimeout(() => stalled.abort(), STALL_MS);
      try {
        const answer = await this.#client.send(
          new GetObjectCommand({
            Bucket: this.name,
            Key: key,
            Range: `bytes=${offset + filled}-${offset + into.length - 1}`,
            ...(etag === null ? {} : { IfMatch: etag }),
          }),
          { abortSignal: stalled.signal },
        );
        if (answer.ContentRange === undefined)
          throw this.#invalid(key, 'the store ignored the range that was asked for');
        for await (const piece of answer.Body as Readable as AsyncIterable<Uint8Array>) {
          if (filled + piece.length > into.length) throw this.#invalid(key, 'the store sent more than was asked for');
          into.set(piece, filled);
          filled += piece.length;
          timer.refresh();
        }
        if (filled < into.length)
          throw new ShortAnswer(`${into.length - filled} of ${into.length} bytes did not arrive`);
      } catch (error) {
        if (stalled.signal.aborted) throw new ShortAnswer(`no byte arrived for ${STALL_MS / 1000} s`);
        throw error;
      } finally {
        clearTimeout(timer);
      }
    });
  }

  /** A whole small object; null when there is none. Throws `file_invalid` over the cap. */
  async readSmall(key: string, capBytes: number): Promise<Uint8Array | null> {
    const found = await this.head(key);
    if (found === null) return null;
    if (found.bytes > capBytes) throw this.#invalid(key, `has ${found.bytes} bytes, over the ${capBytes} it may have`);
    const bytes = new Uint8Array(found.bytes);
    if (found.bytes > 0) await this.readRange(key, found.etag, 0, bytes);
    return bytes;
  }

  /** null when there is no such object. */
  async head(key: string): Promise<S3Object | null> {
    return this.#tried(key, 'read', async () => {
      try {
        const answer = await this.#client.send(new HeadObjectCommand({ Bucket: this.name, Key: key }));
        return { key, bytes: answer.ContentLength ?? 0, etag: answer.ETag ?? '' };
      } catch (error) {
        if (statusOf(error) === 404) return null;
        throw error;
      }
    });
  }

  /** Every object whose key begins so. */
  async list(prefix: string): Promise<S3Object[]> {
    const objects: S3Object[] = [];
    for (let token: string | undefined, more = true; more; ) {
      const answer = await this.#tried(prefix, 'listed', () =>
        this.#client.send(new ListObjectsV2Command({ Bucket: this.name, Prefix: prefix, ContinuationToken: token })),
      );
      for (const { Key, Size, ETag } of answer.Contents ?? [])
        if (Key !== undefined) objects.push({ key: Key, bytes: Size ?? 0, etag: ETag ?? '' });
      token = answer.NextContinuationToken;
      more = answer.IsTruncated === true && token !== undefined;
    }
    return objects;
  }

  async writeSmall(key: string, bytes: Uint8Array, contentType: string): Promise<void> {
    const ContentMD5 = createHash('md5').update(bytes).digest('base64');
    const command = { Bucket: this.name, Key: key, Body: bytes, ContentMD5, ContentType: contentType };
    await this.#tried(key, 'written', () => this.#client.send(new PutObjectCommand(command)));
  }

  /** Of any size, read part by part; appears whole or not at all. */
  async writeLarge(
    key: string,
    bytes: number,
    read: (offset: number, length: number) => Promise<Uint8Array>,
    onBytes: (sent: number) => void,
  ): Promise<void> {
    const send = <Answer>(request: (client: S3Client) => Promise<Answer>) =>
      this.#tried(key, 'written', () => request(this.#client));
    await uploadParts({ bucket: this.name, key, bytes, read, onBytes, send });
  }

  close(): void {
    this.#client.destroy();
  }

  #tried<Result>(key: string, action: string, attempt: () => Promise<Result>): Promise<Result> {
    return withRetries(attempt, mayPass, async (error, attempts) => {
      const region = isElsewhere(error) ? await this.#client.config.region() : '';
      return s3Failure(error, this.address(key), { action, attempts, region });
    });
  }

  #invalid(key: string, rule: string): NibbleError {
    return new NibbleError({ code: 'file_invalid', file: this.address(key), tensor: null, rule });
  }
}

/** What the SDK finds in AWS_REGION or a profile, and a default where it would give up. */
async function regionOf(): Promise<string> {
  const probe = new S3Client({});
  try {
    return await probe.config.region();
  } catch {
    return DEFAULT_REGION;
  } finally {
    probe.destroy();
  }
}
