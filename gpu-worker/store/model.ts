/** Model: a model's files by what MODEL names: a directory or file here, or an id on the Hub. */
import { stat } from 'node:fs/promises';
import type { Options } from '../command-line.ts';
import { usage } from '../command-line.ts';
import { downloadModel, hubAccess, isHubId } from './hub.ts';
import { type LocalModel, openLocalModel } from './local.ts';

/** What is here comes first. Files from the Hub are fetched whole before anything is read. */
export async function openModel(model: string, options: Options): Promise<LocalModel> {
  const revision = options.text('revision');
  const isHere = (await stat(model).catch(() => null)) !== null;
  if (isHere && revision !== null) throw usage(`--revision is for models on the Hub; ${model} is on this machine`);
  if (isHere || !isHubId(model)) return openLocalModel(model);
  const cache = options.text('huggingface-hub-cache');
  const directory = await downloadModel(model, { revision, cache, access: hubAccess() });
  return { ...(await openLocalModel(directory)), baseName: model.split('/')[1]! };
}
