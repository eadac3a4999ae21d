/** S3Failure: what went wrong at an S3 endpoint, as a sentence, and whether it may pass. */
import { NibbleError } from '../../core/errors.ts';

interface S3Error {
  name?: string;
  message?: string;
  code?: string;
  $metadata?: { httpStatusCode?: number };
  $response?: { statusCode?: number };
}

/** The connection broke, or fewer bytes came than the answer had announced. */
export class ShortAnswer extends Error {}

export function statusOf(error: unknown): number | null {
  const { $metadata, $response } = error as S3Error;
  return $metadata?.httpStatusCode ?? $response?.statusCode ?? null;
}

/** Not the fault of the request: another attempt may do. */
export function mayPass(error: unknown): boolean {
  if (error instanceof NibbleError) return false;
  if ((error as S3Error).name === 'CredentialsProviderError') return false;
  const status = statusOf(error);
  // Without a status the connection failed; a 200 with an error is an answer that broke off.
  return status === null || status < 300 || status === 408 || status === 429 || status >= 500;
}

/** The bucket is in another region than the one that was asked. */
export function isElsewhere(error: unknown): boolean {
  const status = statusOf(error);
  return status !== null && status >= 300 && status < 400 && status !== 304;
}

export interface Attempted {
  /** Follows "could not be". */
  action: string;
  attempts: number;
  /** That was asked, where it matters. */
  region: string;
}

export function s3Failure(error: unknown, file: string, attempted: Attempted): Error {
  if (error instanceof NibbleError) return error;
  return new NibbleError({ code: 'file_missing', file, reason: sentenceOf(error as S3Error, attempted) });
}

function sentenceOf(error: S3Error, { action, attempts, region }: Attempted): string {
  const status = statusOf(error);
  if (error.name === 'CredentialsProviderError')
    return 'there are no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the AWS SDK a profile or a role';
  if (error.name === 'NoSuchBucket') return 'there is no such bucket at this endpoint (see AWS_ENDPOINT_URL_S3)';
  if (status === 401 || status === 403)
    return `could not be ${action}: access was denied (${status} ${error.name}); check the credentials and what they may do`;
  if (status === 404) return 'there is no such object';
  if (isElsewhere(error))
    return `could not be ${action}: the bucket lies in another region than ${region}; set AWS_REGION to its own`;
  if (status === 412) return 'was replaced while it was read; start again';
  const what =
    status !== null && status >= 300
      ? `the store answered ${status} ${error.name}`
      : `the connection failed (${error.code ?? error.message ?? error.name})`;
  return `could not be ${action}: ${what}${attempts > 1 ? `, ${attempts} times in a row` : ''}`;
}
