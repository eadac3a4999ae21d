"""Trains the demo tokenizer and the demo model from scratch on the CPU, and saves them in the Hugging Face layout.

    python train.py --minutes 40 --output f16
    python train.py --minutes 40 --start earlier --seed 21 --peak-lr 2e-3 --output f16      goes on from a checkpoint
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from checkpoint import load_model
from generate import stream
from vocabulary import MAX_POSITIONS, VOCAB_SIZE, document_ids, load_tokenizer, save_tokenizer, train_tokenizer

TOKENIZER_SEED = 10
TRAIN_SEED = 20  # evaluate.py and the calibration data use other seeds
ROWS, ROW_TOKENS = 8, 512  # 4096 tokens a step
PEAK_LR, LAST_LR, WARMUP_STEPS = 3e-3, 3e-5, 50
HERE = Path(__file__).parent

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "max_position_embeddings": MAX_POSITIONS,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "pad_token_id": 5,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": VOCAB_SIZE,
}
GENERATION_CONFIG = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 5, "do_sample": True, "temperature": 0.7}


def packed_batches(seed: int, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, positions), each [ROWS, ROW_TOKENS] i64. A row starts with a document, the last one is cut;
    positions start at 0 in each document, which is also how transformers keeps attention inside a document."""
    documents = stream(seed)
    while True:
        ids, positions = [], []
        for _ in range(ROWS):
            row: list[int] = []
            row_positions: list[int] = []
            while len(row) < ROW_TOKENS:
                document = document_ids(next(documents), tokenizer)
                row += document
                row_positions += range(len(document))
            ids.append(row[:ROW_TOKENS])
            positions.append(row_positions[:ROW_TOKENS])
        yield torch.tensor(ids), torch.tensor(positions)


def packed_loss(model: LlamaForCausalLM, ids: Tensor, positions: Tensor) -> Tensor:
    """Mean negative log-likelihood (nats a token) over all tokens but the first of each document."""
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits  # [rows, tokens, vocab] f32
    targets = ids[:, 1:].masked_fill(positions[:, 1:] == 0, -100)
    return cross_entropy(logits[:, :-1].reshape(-1, VOCAB_SIZE), targets.reshape(-1), ignore_index=-100)


def learning_rate(step: int, progress: float, peak: float) -> float:
    cosine = LAST_LR + (peak - LAST_LR) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return cosine * min(1.0, (step + 1) / WARMUP_STEPS)


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, minutes: float, seed: int, peak_lr: float) -> None:
    """Adam with warm-up and a cosine over the time budget; the caller saves."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak_lr, betas=(0.9, 0.97), fused=True)
    start, budget_s, mean_loss = time.monotonic(), minutes * 60, float("nan")
    model.train()
    for step, (ids, positions) in enumerate(packed_batches(seed, tokenizer)):
        elapsed_s = time.monotonic() - start
        if elapsed_s > budget_s:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, elapsed_s / budget_s, peak_lr)
        loss = packed_loss(model, ids, positions)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mean_loss = loss.item() if step == 0 else 0.98 * mean_loss + 0.02 * loss.item()
        if step % 50 == 0:
            tokens = (step + 1) * ids.numel()
            print(f"step {step} tokens {tokens} elapsed_s {elapsed_s:.0f} loss {loss.item():.4f} mean {mean_loss:.4f}", flush=True)
    print(f"done: {step} steps, {step * ROWS * ROW_TOKENS} tokens, {elapsed_s:.0f} s, mean loss {mean_loss:.4f}", flush=True)


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """The head is tied to the embedding and is not stored twice."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.to(torch.float16).contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--output", type=Path, default=HERE / "f16")
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from, with its tokenizer; without it from scratch")
    parser.add_argument("--seed", type=int, default=TRAIN_SEED)
    parser.add_argument("--peak-lr", type=float, default=PEAK_LR)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    if arguments.start:
        tokenizer, model = load_tokenizer(arguments.start), load_model(arguments.start)
    else:
        save_tokenizer(train_tokenizer(TOKENIZER_SEED, 30_000), arguments.output)
        tokenizer, model = load_tokenizer(arguments.output), LlamaForCausalLM(LlamaConfig(**CONFIG)).float()
    print(f"{sum(parameter.numel() for parameter in model.parameters())} parameters", flush=True)
    train(model, tokenizer, arguments.minutes, arguments.seed, arguments.peak_lr)
    if arguments.start:
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (arguments.output / name).write_bytes((arguments.start / name).read_bytes())
    save_model(model, arguments.output)


if __name__ == "__main__":
    main()
