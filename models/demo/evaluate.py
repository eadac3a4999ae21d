"""Measures a demo checkpoint: perplexity on held-out generated text, and whether stories keep to their prompt.

    python evaluate.py f16 gptq-int4 --documents 500 --stories 60
    python evaluate.py gptq-int4 --ask "Tell me a story about a fox named Milo"
"""

import argparse
import math
from itertools import islice
from pathlib import Path
from random import Random

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from checkpoint import load_model
from generate import stream
from stories import write_story
from vocabulary import document_ids, load_tokenizer
from words import article

HELD_OUT_SEED, STORY_SEED = 40, 50  # not the seeds of train.py, nor of the calibration data
MAX_NEW_TOKENS = 320
MIN_STORY_CHARACTERS = 250


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> tuple[float, int]:
    """exp of the mean negative log-likelihood over all tokens after bos, one document at a time; and their number."""
    total, tokens = 0.0, 0
    for document in islice(stream(HELD_OUT_SEED), count):
        ids = torch.tensor([document_ids(document, tokenizer)])
        total += cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum").item()
        tokens += ids.shape[1] - 1
    return math.exp(total / tokens), tokens


def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, temperature: float) -> tuple[str, bool]:
    """The answer to one user message, and whether it ended by itself. Temperature 0 is greedy."""
    messages = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
    output = model.generate(**ids, max_new_tokens=MAX_NEW_TOKENS, pad_token_id=5, eos_token_id=1, **sampling)[0]
    new = output[ids["input_ids"].shape[1] :].tolist()
    return tokenizer.decode(new, skip_special_tokens=True), new[-1] == 1


def story_failures(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, temperature: float) -> list[str]:
    """Asks for `count` stories about fresh animals and names; returns those that lose name, animal, pronoun or end."""
    rng, failures = Random(STORY_SEED), []
    for _ in range(count):
        wanted = write_story(rng)
        text, ended = answer(model, tokenizer, f"Tell me a story about {article(wanted.animal)} named {wanted.hero}", temperature)
        opening = text.split(". ")[0]
        kept = wanted.hero in opening and wanted.animal in opening and text.count(wanted.hero) >= 4
        if not (ended and kept and len(text) > MIN_STORY_CHARACTERS):
            failures.append(f"{wanted.animal} {wanted.hero}: {text}")
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--documents", type=int, default=0)
    parser.add_argument("--stories", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--ask", action="append", default=[])
    arguments = parser.parse_args()
    for folder in arguments.folders:
        torch.manual_seed(1)
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        if arguments.documents:
            value, tokens = perplexity(model, tokenizer, arguments.documents)
            print(f"{folder}: perplexity {value:.4f} over {tokens} held-out tokens", flush=True)
        if arguments.stories:
            failures = story_failures(model, tokenizer, arguments.stories, arguments.temperature)
            print(f"{folder}: {arguments.stories - len(failures)} of {arguments.stories} stories keep name, animal and end", flush=True)
            print("".join(f"  - {failure}\n" for failure in failures), end="")
        for prompt in arguments.ask:
            text, ended = answer(model, tokenizer, prompt, arguments.temperature)
            print(f"\n> {prompt}\n{text}{'' if ended else ' [cut]'}", flush=True)


if __name__ == "__main__":
    main()
