"""Reads either demo checkpoint into a float32 transformers model; GPTQ layers are dequantised in plain torch."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

Tensors = dict[str, Tensor]
BITS = 4
SHIFTS = torch.arange(0, 32, BITS, dtype=torch.int32)  # [8], lowest bits first


def unpack_rows(words: Tensor) -> Tensor:
    """words [rows / 8, columns] i32 -> [rows, columns] i32 of 0..15."""
    return ((words[:, None, :] >> SHIFTS[None, :, None]) & 15).reshape(-1, words.shape[1])


def dequantize(qweight: Tensor, qzeros: Tensor, scales: Tensor, g_idx: Tensor) -> Tensor:
    """weight [out, in] f32 = scale * (q - zero), where v1 stores zero - 1.
    qweight [in / 8, out] i32, qzeros [groups, out / 8] i32, scales [groups, out] f16, g_idx [in] i32."""
    groups = g_idx.long()
    codes = unpack_rows(qweight)  # [in, out]
    zeros = unpack_rows(qzeros.t().contiguous()).t() + 1  # [groups, out]
    return (scales.float()[groups] * (codes - zeros[groups])).t().contiguous()


def dense_tensors(folder: Path) -> Tensors:
    """All tensors of a checkpoint in f32, with `P.qweight` and its companions replaced by `P.weight`."""
    stored = load_file(folder / "model.safetensors")
    dense = {name: value.float() for name, value in stored.items() if name.endswith(".weight")}
    for name in stored:
        if name.endswith(".qweight"):
            prefix = name.removesuffix("qweight")
            parts = (stored[prefix + part] for part in ("qweight", "qzeros", "scales", "g_idx"))
            dense[prefix + "weight"] = dequantize(*parts)
    return dense


def load_model(folder: Path) -> LlamaForCausalLM:
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    config.pop("torch_dtype")
    model = LlamaForCausalLM(LlamaConfig(**config)).float()
    result = model.load_state_dict(dense_tensors(folder), strict=False)
    if result.unexpected_keys or result.missing_keys not in ([], ["lm_head.weight"]):
        raise ValueError(f"{folder}: {result}")
    model.tie_weights()
    return model.eval()
