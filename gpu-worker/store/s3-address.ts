/** S3Address: s3://bucket/prefix, parsed and put together. */
import { NibbleError } from '../../core/errors.ts';

export interface S3Address {
  bucket: string;
  /** Without slashes at its ends; empty for the whole bucket. */
  prefix: string;
}

const SCHEME = 's3://';
/** Amazon's rule for bucket names; R2's and MinIO's are within it. */
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
/** Amazon's limit for a key, in bytes; blobs and manifests need 90 of them. */
const MAX_PREFIX_BYTES = 900;

export function isS3(model: string): boolean {
  return model.startsWith(SCHEME);
}

/** Throws `usage` for what is no s3://bucket/prefix. */
export function parseS3Address(text: string): S3Address {
  const wrong = (reason: string) => new NibbleError({ code: 'usage', reason: `"${text}" ${reason}` });
  if (!isS3(text)) throw wrong('is not an address of the form s3://bucket/prefix');
  const [bucket = '', ...rest] = text.slice(SCHEME.length).split('/');
  if (!BUCKET.test(bucket))
    throw wrong(`names the bucket "${bucket}"; bucket names are 3 to 63 of a-z, 0-9, dots and dashes`);
  const parts = rest.filter((part) => part !== '');
  if (parts.some((part) => part === '.' || part === '..')) throw wrong('has "." or ".." in its prefix');
  const prefix = parts.join('/');
  if (new TextEncoder().encode(prefix).length > MAX_PREFIX_BYTES)
    throw wrong(`has a prefix of over ${MAX_PREFIX_BYTES} bytes`);
  return { bucket, prefix };
}

export function formatS3({ bucket, prefix }: S3Address): string {
  return prefix === '' ? SCHEME + bucket : `${SCHEME}${bucket}/${prefix}`;
}

/** The address below. */
export function below({ bucket, prefix }: S3Address, ...parts: readonly string[]): S3Address {
  return { bucket, prefix: [prefix, ...parts].filter((part) => part !== '').join('/') };
}
