#!/usr/bin/env bash
# A worker on a rented box: no root, no container, nothing that listens. Behind NAT is fine: the worker dials out. For a template's
# start-up script, or by hand over SSH. On boxes that are containers, the Vulkan driver must be there: the last check says so.
#   EDGE=https://your.edge TOKEN=nbl_… MODEL_ID=org/model REPOSITORY=https://…/nibble.git bash worker.sh
# All of `nibble serve`'s options come from variables (QUANTIZE, SERVED_MODEL_NAME, WEIGHTS_CACHE, HF_TOKEN, AWS_…); see --help.
set -euo pipefail
: "${EDGE:?the edge to link to}" "${TOKEN:?a key with the scope worker}" "${MODEL_ID:?the model}"
NIBBLE_HOME=${NIBBLE_HOME:-$HOME/nibble}

# Node ≥ 20 with npm starts it; it brings a newer Node of its own on Linux x64.
command -v npm >/dev/null || { echo 'npm is missing: install Node 20 or newer' >&2; exit 1; }
[ -d "$NIBBLE_HOME" ] || git clone --depth 1 "${REPOSITORY:?where to clone Nibble from}" "$NIBBLE_HOME"
cd "$NIBBLE_HOME"

# Where the box has no disk that outlives it, weights come from S3 and go to the biggest disk there is.
export HUGGINGFACE_HUB_CACHE=${HUGGINGFACE_HUB_CACHE:-$NIBBLE_HOME/weights}

if ! ls /etc/vulkan/icd.d/*.json /usr/share/vulkan/icd.d/*.json >/dev/null 2>&1; then
  echo 'No Vulkan driver is installed here, so this worker would run on the CPU.' >&2
  echo 'In a container, start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics and install libvulkan1.' >&2
  echo 'BACKEND=wasm runs on the CPU all the same.' >&2
  [ "${BACKEND:-auto}" = wasm ] || exit 1
fi

# Comes back after a crash or a lost GPU, but not after a refusal that trying again cannot mend (exit code 2) or a stop (0).
while true; do
  code=0
  bin/nibble serve || code=$?
  case $code in
    0 | 2) exit "$code" ;;
    *) echo "the worker ended with exit code $code; again in 10 s" >&2 && sleep 10 ;;
  esac
done
