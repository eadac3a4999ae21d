/** Price book: a model's prices by the moment from which each holds. A price that has held is never changed, only followed. Pure. */
import type { Failure } from '../../core/errors.ts';
import type { PriceVersion } from '../api/accounts.ts';

/** The price that holds at `nowMs`, or null before the first. `versions` are in any order. */
export function priceAt(versions: readonly PriceVersion[], nowMs: number): PriceVersion | null {
  return versions.reduce<PriceVersion | null>(
    (found, version) =>
      version.effectiveFromMs <= nowMs && (found === null || version.effectiveFromMs > found.effectiveFromMs)
        ? version
        : found,
    null,
  );
}

/** When another price begins to hold; null when none is planned. */
export function nextChangeMs(versions: readonly PriceVersion[], nowMs: number): number | null {
  const later = versions.map(({ effectiveFromMs }) => effectiveFromMs).filter((fromMs) => fromMs > nowMs);
  return later.length === 0 ? null : Math.min(...later);
}

/** Why a version may not enter the book: requests have been admitted at what held until now. */
export function refusalOfVersion(
  versions: readonly PriceVersion[],
  version: PriceVersion,
  nowMs: number,
): Failure | null {
  const invalid = (reason: string): Failure => ({ code: 'invalid_request', param: 'effective_from', reason });
  const held = versions.some(
    ({ effectiveFromMs }) => effectiveFromMs === version.effectiveFromMs && effectiveFromMs <= nowMs,
  );
  if (version.effectiveFromMs < nowMs || held)
    return invalid('effective_from is in the past; prices hold for later requests.');
  if (versions.length >= MAX_VERSIONS && !versions.some((known) => known.effectiveFromMs === version.effectiveFromMs))
    return invalid(`The model has ${MAX_VERSIONS} prices already.`);
  return null;
}

/** One a day for years; the book travels with every look at the catalog. */
export const MAX_VERSIONS = 1000;
