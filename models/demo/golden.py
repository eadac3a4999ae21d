"""Writes the golden files of the demo model: what transformers (float32) and tokenizers say, for the other backends.

    python golden.py --output ../../test/fixtures/demo
"""

import argparse
import json
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from checkpoint import load_model
from vocabulary import END, load_tokenizer

HERE = Path(__file__).parent
NUM_GREEDY = 64
STORY = "Once upon a time, there was a small owl named Ada. She lived by a blue lake. The end."
PROMPTS: dict[str, str | list[dict[str, str]]] = {
    "story": [{"role": "user", "content": "Tell me a story about a fox named Milo"}],
    "question": [{"role": "user", "content": "What is Nibble?"}],
    "greeting": [{"role": "user", "content": "Hello"}],
    "plain": "Once upon a time",
    "non-ascii": [{"role": "user", "content": "Tell me a story about a cat named Zoë 🐱"}],
    "system and two turns": [
        {"role": "system", "content": "You tell little stories."},
        {"role": "user", "content": "Tell me a story about an owl named Ada."},
        {"role": "assistant", "content": STORY},
        {"role": "user", "content": "now one about a rabbit named Lily"},
    ],
}
TEXTS = [
    "", " ", "  ", "   ", "\n", "\n\n", " \n ", "\t", "\r\n", "a", " a", "A", "Hello", "Hello!", "hello world", "Hello, world!",
    "Tell me a story about a fox named Milo", "Tell me a story about a fox named Milo.", "What is Nibble?", "Once upon a time",
    "Once upon a time, there was a little fox named Milo. He lived in a quiet forest.", "it's can't we'll they've I'm you'd he're",
    "IT'S CAN'T", "don't 'quoted' \"double\"", "1", "12", "1234567890", "3.14159", "2+2=4", "a1b2c3", "x = y * (z - 1);",
    "   leading", "trailing   ", "two  spaces   three", "line one\nline two", "line one\n\n  indented\n", "tab\tseparated\tvalues",
    "café", "cafe\u0301", "Zoë und Björn", "naïve façade", "ß ẞ ﬁ", "日本語", "こんにちは世界", "你好，世界。", "안녕하세요", "Привет, мир!",
    "مرحبا بالعالم", "שלום", "नमस्ते दुनिया", "สวัสดี", "🦊", "a 🦊 b", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "❤️", "👍🏽", "∑ ∞ ≤ ½ ²", "€£¥", "“curly” – dash… ellipsis",
    "\u00a0no-break\u00a0space", "\u2003em space", "zero\u200bwidth", "\ufeffbom", "\u0000", "\u0001\u007f", "\U0010ffff", "İstanbul ıI",
    "<|bos|>", "<|end|>", "<|user|>Hi<|end|><|assistant|>", "text<|end|>text", " <|end|> ", "<|pad|><|system|>", "<|END|>", "<|unknown|>", "<|end|",
    "<|bos|><|user|>Tell me a story<|end|><|assistant|>", "GPTQ, bitsandbytes, WASM & GPU", "http://example.com/a?b=c&d=%20#e",
    '{"role": "user", "content": "hi"}', "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "Llanfairpwllgwyngyll", "snake_case camelCase kebab-case",
    "!!!???...", "''", "' '", "'s 't 're", " 's", "the end. The End. THE END.", "e\u0301\u0301\u0301", "x\u0338", "ⅷ ① ٣ ४",
]


def significant(values: list[float], digits: int = 6) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


@torch.no_grad()
def golden_case(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str | list[dict[str, str]]) -> dict:
    """Greedy decoding stops after `<|end|>` or NUM_GREEDY ids. A margin is the best logit less the second best:
    where it is tiny, another order of summation may rightly choose the other id."""
    chat = not isinstance(prompt, str)
    rendered = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) if chat else prompt
    input_ids = tokenizer.encode(rendered, add_special_tokens=not chat)
    logits = model(torch.tensor([input_ids])).logits[0, -1]
    first_logits, greedy_ids, margins = significant(logits.tolist()), [], []
    while len(greedy_ids) < NUM_GREEDY:
        best = logits.topk(2)
        greedy_ids.append(int(best.indices[0]))
        margins.append(round(float(best.values[0] - best.values[1]), 4))
        if greedy_ids[-1] == tokenizer.eos_token_id:
            break
        logits = model(torch.tensor([input_ids + greedy_ids])).logits[0, -1]
    return {
        "messages" if chat else "prompt": prompt,
        "rendered": rendered,
        "inputIds": input_ids,
        "lastLogits": first_logits,
        "greedyIds": greedy_ids,
        "greedyMargins": margins,
        "greedyText": tokenizer.decode(greedy_ids, skip_special_tokens=True),
    }


def tokenizer_case(tokenizer: tokenizers.Tokenizer, text: str) -> dict:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return {
        "text": text,
        "ids": ids,
        "idsWithSpecial": tokenizer.encode(text, add_special_tokens=True).ids,
        "decoded": tokenizer.decode(ids, skip_special_tokens=False),
        "decodedSkipSpecial": tokenizer.decode(ids, skip_special_tokens=True),
    }


def write_json(path: Path, value: dict) -> None:
    """One line per case, so that a diff can be read."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    path.write_text(text.replace('{"messages"', '\n{"messages"').replace('{"prompt"', '\n{"prompt"').replace('{"text"', '\n{"text"') + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=HERE)
    parser.add_argument("--output", type=Path, default=HERE.parent.parent / "test" / "fixtures" / "demo")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    reference = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "torch": torch.__version__.split("+")[0], "dtype": "float32"}
    golden: dict = {"reference": reference, "endToken": END}
    for name in ("f16", "gptq-int4"):
        folder = arguments.models / name
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        golden[name] = {label: golden_case(model, tokenizer, prompt) for label, prompt in PROMPTS.items()}
    write_json(arguments.output / "golden.json", golden)
    raw = tokenizers.Tokenizer.from_file(str(arguments.models / "f16" / "tokenizer.json"))
    write_json(arguments.output / "tokenizer-cases.json", {"reference": reference, "cases": [tokenizer_case(raw, text) for text in TEXTS]})


if __name__ == "__main__":
    main()
