/** Worker: the edge, and the fallback's class beside it, so that tests reach into both. In production it is a script of its own. */

export { FallbackObject } from '../../edge/fallback/object.ts';
export { AccountObject, CatalogObject, DirectoryObject, default, QueueObject } from '../../edge/index.ts';
