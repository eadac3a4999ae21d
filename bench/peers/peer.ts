/** Peer: the frame of a rival's process. It loads, says so, and answers one task at a time until its channel closes. */
import process from 'node:process';
import type { PeerAnswer, PeerSetup, PeerTask } from '../../gpu-worker/bench/peer-protocol.ts';

export interface LoadedPeer {
  version: string;
  weightBytes: number;
  /** tokens, or products, a second */
  run(task: PeerTask): Promise<number>;
  close(): Promise<void>;
}

export async function servePeer(load: (setup: PeerSetup) => Promise<LoadedPeer>): Promise<void> {
  const say = (answer: PeerAnswer) => process.send!(answer);
  const failed = (error: unknown) =>
    say({ kind: 'failed', reason: error instanceof Error ? error.message : `${error}` });
  try {
    const peer = await load(JSON.parse(process.argv[2] ?? '{}') as PeerSetup);
    process.on('disconnect', async () => {
      await peer.close();
      process.exit();
    });
    process.on('message', async (task: PeerTask) => {
      try {
        say({ kind: 'rate', perSecond: await peer.run(task) });
      } catch (error) {
        failed(error);
      }
    });
    say({ kind: 'ready', version: peer.version, weightBytes: peer.weightBytes });
  } catch (error) {
    failed(error);
    process.exitCode = 1;
    process.disconnect?.();
  }
}

/** Ids of ordinary tokens, other ones for another `seed`, the same for the same. */
export function promptIds(count: number, vocab: number, seed: number): number[] {
  const first = 300;
  return Array.from({ length: count }, (_, i) => first + ((i * 7919 + seed * 31) % (vocab - first)));
}
