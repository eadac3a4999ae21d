/** HubAccess: which Hub, with which token, and what names a model there. The Hub's own library is loaded where it is used (hub.ts). */
import { homedir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { usage } from '../command-line.ts';

export interface HubAccess {
  /** HF_ENDPOINT, or huggingface.co. */
  endpoint: string;
  /** HF_TOKEN; null: public models only. */
  token: string | null;
}

export function hubAccess(environment: NodeJS.ProcessEnv = process.env): HubAccess {
  return {
    endpoint: (environment.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, ''),
    token: environment.HF_TOKEN || null,
  };
}

/** Where huggingface_hub keeps its models too. */
export function defaultHubCache(environment: NodeJS.ProcessEnv = process.env): string {
  const { HF_HUB_CACHE, HF_HOME } = environment;
  return HF_HUB_CACHE || join(HF_HOME || join(homedir(), '.cache', 'huggingface'), 'hub');
}

/** `organization/name`, as a person may type it for a model. */
export function isHubId(text: string): boolean {
  return /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/.test(text) && !text.includes('..');
}

/** Before hours of work: whether there is a token, and an id to upload to. */
export function checkUpload(id: string, { token }: HubAccess): void {
  if (!isHubId(id)) throw usage(`--upload-to-model-id is "${id}"; organization/name is needed`);
  if (token === null) throw usage('--upload-to-model-id needs a token in HF_TOKEN');
  if (!token.startsWith('hf_')) throw usage('HF_TOKEN is no token of the Hub: one begins with hf_');
}
