"""Quantizes the demo model with GPTQ (Frantar et al. 2022, arXiv:2210.17323) to 4 bits, in the AutoGPTQ v1 layout.

    python quantize.py --input f16 --output gptq-int4

All linear layers of the blocks; embedding, head and norms stay float16.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from checkpoint import BITS, Tensors, load_model, pack_rows
from train import ROWS, packed_batches
from vocabulary import load_tokenizer

CALIBRATION_SEED, CALIBRATION_ROWS = 30, 256  # rows of 512 tokens
GROUP_SIZE = 64
DAMP = 0.01
MAX_CODE = 2**BITS - 1
ZERO = (MAX_CODE + 1) // 2  # symmetric
STAGES = [  # true-sequential: a stage sees the output of the stages before it, already quantized
    ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    ["self_attn.o_proj"],
    ["mlp.gate_proj", "mlp.up_proj"],
    ["mlp.down_proj"],
]
HERE = Path(__file__).parent


def group_scale(weights: Tensor) -> Tensor:
    """scale [out, 1] of weights [out, group], rounded to the f16 that is stored, so that the error feedback sees it."""
    low, high = weights.amin(1).clamp(max=0), weights.amax(1).clamp(min=0)
    high = torch.maximum(low.abs(), high)
    low = torch.where(low < 0, -high, low)
    high, low = torch.where(high == 0, 1.0, high), torch.where(high == 0, -1.0, low)
    return ((high - low) / MAX_CODE).half().float()[:, None]


def gptq(weight: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """weight [out, in] f32, hessian [in, in] f32 -> codes [out, in] of 0..15, scales [out, groups].
    The column block of the lazy update is one group, so a group's scale is taken from fully compensated weights."""
    weight, hessian = weight.clone(), hessian.clone()
    columns = weight.shape[1]
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    weight[:, dead] = 0
    hessian += DAMP * hessian.diagonal().mean() * torch.eye(columns)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)  # [in, in]
    codes, scales = torch.zeros_like(weight, dtype=torch.int32), []
    for start in range(0, columns, GROUP_SIZE):
        end = start + GROUP_SIZE
        block, errors = weight[:, start:end].clone(), torch.zeros(weight.shape[0], GROUP_SIZE)
        scale = group_scale(block)
        scales.append(scale)
        for i in range(GROUP_SIZE):
            column, row = block[:, i : i + 1], upper[start + i, start:end]
            code = (torch.round(column / scale) + ZERO).clamp(0, MAX_CODE)
            codes[:, start + i] = code[:, 0].int()
            error = (column - scale * (code - ZERO)) / row[i]
            block[:, i:] -= error * row[None, i:]
            errors[:, i : i + 1] = error
        weight[:, end:] -= errors @ upper[start:end, end:]
    return codes, torch.cat(scales, 1)


class Hessian:
    """H = 2/N * sum of x x^T over N sequences, from the inputs of one linear layer."""

    def __init__(self, layer: nn.Linear):
        self.matrix, self.num_sequences = torch.zeros(layer.in_features, layer.in_features), 0

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]  # [rows, tokens, in]
        total = self.num_sequences + x.shape[0]
        flat = x.reshape(-1, x.shape[-1])
        self.matrix = self.matrix * (self.num_sequences / total) + (2 / total) * flat.t() @ flat
        self.num_sequences = total


def packed(codes: Tensor, scales: Tensor) -> Tensors:
    """codes [out, in], scales [out, groups] -> the four tensors of AutoGPTQ v1; the stored zero is zero - 1."""
    zeros = torch.full(scales.shape, ZERO - 1)  # [out, groups]
    return {
        "qweight": pack_rows(codes.t().contiguous()),
        "qzeros": pack_rows(zeros).t().contiguous(),
        "scales": scales.t().contiguous().half(),
        "g_idx": torch.arange(codes.shape[1], dtype=torch.int32) // GROUP_SIZE,
    }


@torch.no_grad()
def quantize_model(model: LlamaForCausalLM, batches: list[tuple[Tensor, Tensor]]) -> Tensors:
    """Quantizes the layers of `model` in place, and returns their packed tensors."""
    tensors: Tensors = {}
    for index, block in enumerate(model.model.layers):
        for stage in STAGES:
            layers = {name: block.get_submodule(name) for name in stage}
            hessians = {name: Hessian(layer) for name, layer in layers.items()}
            hooks = [layers[name].register_forward_pre_hook(hessians[name]) for name in stage]
            for ids, positions in batches:
                model.model(input_ids=ids, position_ids=positions, use_cache=False)
            for hook in hooks:
                hook.remove()
            for name, layer in layers.items():
                codes, scales = gptq(layer.weight, hessians[name].matrix)
                restored = scales.repeat_interleave(GROUP_SIZE, 1) * (codes - ZERO)
                lost = ((restored - layer.weight) @ hessians[name].matrix * (restored - layer.weight)).sum()
                kept = (layer.weight @ hessians[name].matrix * layer.weight).sum()
                layer.weight.copy_(restored)
                prefix = f"model.layers.{index}.{name}"
                print(f"{prefix}: relative output error {(lost / kept).sqrt().item():.4f}", flush=True)
                tensors |= {f"{prefix}.{part}": value for part, value in packed(codes, scales).items()}
    return tensors


def save_quantized(source: Path, output: Path, tensors: Tensors) -> None:
    output.mkdir(parents=True, exist_ok=True)
    quantized = {name.rsplit(".", 1)[0] for name in tensors}
    rest = {name: value for name, value in load_file(source / "model.safetensors").items() if name.rsplit(".", 1)[0] not in quantized}
    save_file(rest | tensors, output / "model.safetensors", metadata={"format": "pt"})
    (output / "model.safetensors").chmod(0o644)
    settings = {
        "bits": BITS, "group_size": GROUP_SIZE, "damp_percent": DAMP, "desc_act": False, "static_groups": False,
        "sym": True, "true_sequential": True, "quant_method": "gptq", "checkpoint_format": "gptq",
    }
    config = json.loads((source / "config.json").read_text()) | {"quantization_config": settings}
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (output / "quantize_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(source / name, output / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=HERE / "f16")
    parser.add_argument("--output", type=Path, default=HERE / "gptq-int4")
    arguments = parser.parse_args()
    stream = packed_batches(CALIBRATION_SEED, load_tokenizer(arguments.input))
    batches = [next(stream) for _ in range(CALIBRATION_ROWS // ROWS)]
    save_quantized(arguments.input, arguments.output, quantize_model(load_model(arguments.input), batches))


if __name__ == "__main__":
    main()
