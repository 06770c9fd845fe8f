"""A tiny Qwen2 with a BPE of its own: random weights, which learn from nothing but the trajectories they are given.

A checkpoint folder is one as transformers writes it. Each digit is a token, as with Qwen2; unlike there, everything
between digits may become one token, and each header is one: a conversation is less than half as long. The chat template
marks what the assistant said.
Source: Qwen2's `tokenizer.json`; ChatML.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

END, PAD, BEGIN = "<|im_end|>", "<|endoftext|>", "<|im_start|>"
DIGIT = r"\p{N}"
HEADERS = [
    f"{BEGIN}{role}\n" for role in ("system", "user", "assistant", "tool")
]  # one token each: nothing merges into them
TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.role == 'assistant' %}{% generation %}{{- m.content + '<|im_end|>' }}{% endgeneration %}{{- '\n' }}"
    "{%- else %}{{- m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def make_tokenizer(texts: Iterable[str], folder: Path, *, vocabulary: int = 1500) -> Any:
    """Train a BPE on `texts`, save it in `folder`, return it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(DIGIT), "isolated"), byte_level])
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[PAD, END, *HEADERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=END, pad_token=PAD, padding_side="left", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder` as it was made; AutoTokenizer would split text as all tokenizers of Qwen2 do."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def make_model(
    tokenizer: Any, *, context: int = 1024, seed: int = 0, width: int = 128, layers: int = 4
) -> Any:
    """Return an untrained Qwen2 for `tokenizer`."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
