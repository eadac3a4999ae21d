"""GPTQ (arXiv:2210.17323) of a Llama in plain torch, as text-generation-inference's `quantize` orders it: the rival of `nibble quantize`.

    python scripts/peers/gptq_torch.py MODEL IDS.json --bits 4 --groupsize 128 --threads 2 --dtype float32

IDS.json: a JSON array of arrays of token ids. Prints one JSON line: seconds and CPU seconds from when the model is loaded, peak memory, and the loss.
Made with torch 2.15 and transformers 5.23.
"""

import argparse
import json
import resource
import time

import torch
from torch import nn
from transformers import LlamaForCausalLM


class Hessian:
    def __init__(self, columns):
        self.matrix, self.sequences = torch.zeros(columns, columns), 0

    def add(self, x):
        x = x.reshape(-1, x.shape[-1]).float()
        self.matrix *= self.sequences / (self.sequences + 1)
        self.sequences += 1
        x = x * (2 / self.sequences) ** 0.5
        self.matrix += x.t() @ x


def grid(x, levels):
    low, high = x.amin(1).clamp(max=0), x.amax(1).clamp(min=0)
    high = torch.maximum(low.abs(), high)
    high = torch.where(high == 0, 1.0, high)
    return (2 * high / levels)[:, None]


def solve(weight, hessian, bits, group, damp, block=128):
    w, h, levels = weight.float().clone(), hessian.clone(), 2**bits - 1
    zero = (levels + 1) / 2
    dead = h.diagonal() == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h.diagonal().add_(damp * h.diagonal().mean())
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    columns, result, loss = w.shape[1], torch.zeros_like(w), 0.0
    for begin in range(0, columns, block):
        end = min(begin + block, columns)
        own, errors, u = w[:, begin:end].clone(), torch.zeros(w.shape[0], end - begin), upper[begin:end, begin:end]
        for i in range(end - begin):
            if (begin + i) % group == 0:
                scale = grid(w[:, begin + i : begin + i + group], levels)
            column = own[:, i : i + 1]
            q = scale * ((torch.round(column / scale) + zero).clamp(0, levels) - zero)
            result[:, begin + i] = q[:, 0]
            error = (column - q) / u[i, i]
            loss += (error**2).sum().item() / 2
            own[:, i:] -= error @ u[i : i + 1, i:]
            errors[:, i : i + 1] = error
        w[:, end:] -= errors @ upper[begin:end, end:]
    return result, loss


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("ids")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--groupsize", type=int, default=128)
    parser.add_argument("--percdamp", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", help="save the fake-quantized model here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = LlamaForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).eval()
    rows = json.load(open(args.ids))
    began, losses, before = time.time(), {}, resource.getrusage(resource.RUSAGE_SELF)
    hidden = [model.model.embed_tokens(torch.tensor([row])) for row in rows]
    ropes = [model.model.rotary_emb(h, torch.arange(h.shape[1])[None]) for h in hidden]
    for index, layer in enumerate(model.model.layers):
        linears = {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
        hessians = {name: Hessian(module.in_features) for name, module in linears.items()}
        # One Hessian for those that share an input.
        leaders = {name: name for name in linears} | {"self_attn.k_proj": "self_attn.q_proj", "self_attn.v_proj": "self_attn.q_proj", "mlp.up_proj": "mlp.gate_proj"}
        hooks = [
            linears[name].register_forward_pre_hook(lambda _, inputs, name=name: hessians[name].add(inputs[0]))
            for name in linears
            if leaders[name] == name
        ]
        forward = lambda i: layer(hidden[i], position_embeddings=ropes[i], attention_mask=None)
        for i in range(len(rows)):
            forward(i)
        for hook in hooks:
            hook.remove()
        for name, module in linears.items():
            result, losses[f"{index}.{name}"] = solve(module.weight, hessians[leaders[name]].matrix, args.bits, args.groupsize, args.percdamp)
            module.weight.copy_(result)
        for i in range(len(rows)):
            out = forward(i)
            hidden[i] = out[0] if isinstance(out, tuple) else out
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": time.time() - began, "cpu_seconds": usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime, "max_rss_mb": usage.ru_maxrss // 1024, "loss": sum(losses.values())}))
    if args.out:
        model.save_pretrained(args.out)


if __name__ == "__main__":
    main()
