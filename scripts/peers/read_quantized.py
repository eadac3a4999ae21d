"""Loads a directory that `nibble quantize` wrote in other readers, and compares their logits with Nibble's reference backend's.

    GPTQMODEL_CPU_WORKERS=2 python scripts/peers/read_quantized.py OUT

Readers: transformers (AutoModelForCausalLM, which hands GPTQ to optimum and gptqmodel) and gptqmodel alone, in f16, the only plain type of gptqmodel's, on the CPU; a reader that is not
installed is named. Prints one JSON line a reader; exits 1 when a logit differs by more than 1e-2 of the largest, or nothing could read.
Made with torch 2.15, transformers 5.23, gptqmodel 7.7.
"""

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-2


def nibble_logits(model: Path, ids: list[int]) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "ids.json", Path(folder) / "logits.json"
        given.write_text(json.dumps(ids))
        script = "scripts/peers/nibble-logits.ts"
        subprocess.run(["node", ROOT / "scripts" / "with-node.mjs", script, model.resolve(), given, found], check=True, cwd=ROOT)
        return torch.tensor(json.loads(found.read_text()))


def by_transformers(model: Path, ids: torch.Tensor) -> torch.Tensor:
    from transformers import AutoModelForCausalLM, GPTQConfig

    # Its plain kernel: the faster ones compile C++ first.
    bits = json.loads((model / "config.json").read_text())["quantization_config"]["bits"]
    kernel = GPTQConfig(bits=bits, backend="gptq_torch")
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float16, device_map="cpu", quantization_config=kernel).eval()
    return loaded(ids).logits[0]


def by_gptqmodel(model: Path, ids: torch.Tensor) -> torch.Tensor:
    from gptqmodel import BACKEND, GPTQModel

    loaded = GPTQModel.load(str(model), device="cpu", backend=BACKEND.TORCH, dtype=torch.float16)
    return loaded.model(ids).logits[0]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=48)
    arguments = parser.parse_args()
    vocabulary = json.loads((arguments.model / "config.json").read_text())["vocab_size"]
    ids = torch.randint(0, vocabulary, (1, arguments.tokens), generator=torch.Generator().manual_seed(1))
    expected = nibble_logits(arguments.model, ids[0].tolist())
    worst = None
    for name, read in (("transformers", by_transformers), ("gptqmodel", by_gptqmodel)):
        try:
            logits = read(arguments.model, ids).float()
        except Exception as error:  # noqa: BLE001: each reader fails in its own way, and the other is still asked
            print(json.dumps({"reader": name, "error": f"{type(error).__name__}: {error}"[:300]}), flush=True)
            continue
        difference = ((logits - expected).abs().max() / expected.abs().max()).item()
        same = (logits.argmax(1) == expected.argmax(1)).float().mean().item()
        worst = max(worst or 0.0, difference)
        version = importlib.metadata.version(name)
        print(json.dumps({"reader": name, "version": version, "tokens": arguments.tokens, "relative_difference": difference, "same_argmax": same}), flush=True)
    sys.exit(0 if worst is not None and worst <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
