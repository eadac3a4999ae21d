#!/bin/sh
# Runs the WebGPU backend's tests and benchmarks on this machine: Linux x64 with a GPU and its Vulkan driver; no Node, no network.
# Usage: run.sh [tests|kernels|decode|prefill|all] [arguments for nibble bench]. Results as JSON in $OUT, ./results by default.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
what=${1:-all}
[ $# -gt 0 ] && shift
out=${OUT:-$PWD/results}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

gzip -dc "$here/node.gz" > "$work/node"
chmod +x "$work/node"
"$work/node" -e 'const z = require("zlib"), fs = require("fs"); fs.writeFileSync(process.argv[2], z.brotliDecompressSync(fs.readFileSync(process.argv[1])))' \
  "$here/nibble.tar.br" "$work/nibble.tar"
tar -x -C "$work" -f "$work/nibble.tar"
rm "$work/nibble.tar"
cd "$work/nibble"

# The system's own Vulkan loader if it has one; NVIDIA's containers may keep the driver's description elsewhere.
if ! ldconfig -p 2>/dev/null | grep -q libvulkan.so.1; then export VULKAN_LOADER="$work/nibble/lib/libvulkan.so.1"; fi
nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -z "${VK_DRIVER_FILES:-}" ] && [ -f "$nvidia" ]; then export VK_DRIVER_FILES="$nvidia"; fi
export PATH="$work:$PATH" NIBBLE_TEST_GPU=system NIBBLE_COMMIT="$(cat commit)"

"$work/node" gpu-worker/webgpu/probe.ts > "$out/adapter.json" || { echo "no WebGPU adapter answered on this machine" >&2; exit 1; }
cat "$out/adapter.json"

status=0
if [ "$what" = tests ] || [ "$what" = all ]; then
  # Each test as it ends, and the whole as JSON. Lavapipe compiles for minutes with all of LLVM's passes; other drivers do not read this.
  GALLIVM_PERF="${GALLIVM_PERF:-nopt}" "$work/node" --import ./scripts/gpu-bundle/register.ts --test --test-concurrency=1 \
    --test-reporter=spec --test-reporter-destination=stderr \
    --test-reporter=./scripts/gpu-bundle/reporter.ts --test-reporter-destination="$out/tests.json" \
    'test/webgpu/**/*.test.ts' || status=1
  head -c 2000 "$out/tests.json"
fi
for task in kernels decode prefill; do
  if [ "$what" = "$task" ] || [ "$what" = all ]; then
    "$work/node" gpu-worker/cli.ts bench "$task" --backend webgpu --json "$@" > "$out/$task.json" || status=1
    head -c 2000 "$out/$task.json"
  fi
done
exit $status
