/** ProbeGpu: prints the name of the adapter that WebGPU finds here; exit code 1 when there is none. */
import process from 'node:process';
import { openDevice } from '../gpu-worker/webgpu/device.ts';

try {
  const { device, description } = await openDevice({ adapter: 'any', precision: 'auto', bounds: 'robust' });
  console.log(description);
  device.destroy();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
