/** StoredModel: the files of one model wherever they are stored; what every store gives. */
import type { FileSet } from '../../core/formats/file-set.ts';

/** `close` frees handles and buffers; reads after it fail. */
export interface StoredModel extends FileSet {
  /** The last part of its address: the name to serve it under. */
  readonly baseName: string;
  list(): Promise<readonly string[]>;
  /** A text that two models share only when their files are the same, byte for byte. May have to read them all. */
  identity(): Promise<string>;
  close(): Promise<void>;
}
