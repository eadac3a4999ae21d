"""The demo tokenizer: a byte-level BPE of 1024 entries, its chat template, and the files it is saved in."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from generate import Document, stream

VOCAB_SIZE = 1024
MAX_POSITIONS = 512
BOS, END, PAD = "<|bos|>", "<|end|>", "<|pad|>"
SPECIAL_TOKENS = [BOS, END, "<|system|>", "<|user|>", "<|assistant|>", PAD]  # ids 0 to 5
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('Unknown role ' + message['role'] + ': this model knows system, user and assistant.') }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] | trim) + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TOKENIZER_CONFIG = {
    "add_bos_token": True,
    "add_prefix_space": False,
    "bos_token": BOS,
    "chat_template": CHAT_TEMPLATE,
    "clean_up_tokenization_spaces": False,
    "eos_token": END,
    "model_input_names": ["input_ids", "attention_mask"],
    "model_max_length": MAX_POSITIONS,
    "pad_token": PAD,
    "tokenizer_class": "PreTrainedTokenizerFast",
}


def plain_texts(seed: int, count: int) -> Iterator[str]:
    for document in islice(stream(seed), count):
        if isinstance(document, str):
            yield document
        else:
            yield from (message["content"] for message in document)


def train_tokenizer(seed: int, count: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(plain_texts(seed, count), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(folder)


def render(document: Document, tokenizer: PreTrainedTokenizerFast) -> str:
    """The document as the model sees it: bos first, `<|end|>` after each message or after the plain text."""
    if isinstance(document, str):
        return BOS + document + END
    return tokenizer.apply_chat_template(document, tokenize=False)


def document_ids(document: Document, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return tokenizer.encode(render(document, tokenizer), add_special_tokens=False)
