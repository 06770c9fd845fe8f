"""A tiny Qwen2 with a BPE of its own: random weights, which learn from nothing but the trajectories they are given.

A checkpoint folder is one as transformers writes it, and AutoTokenizer reads it as it was made: text is split as all
tokenizers of Qwen2 split it. Each header, and what the agent's protocol says again and again, is one token, so that a
conversation is short.
Source: Qwen2's `tokenizer.json`; ChatML.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

END, PAD, BEGIN = "<|im_end|>", "<|endoftext|>", "<|im_start|>"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)  # of Qwen2
HEADERS = [f"{BEGIN}{role}\n" for role in ("system", "user", "assistant")]  # nothing merges into them
PHRASES = ["```bash\n", "\n```", "<submit>", "[exit code 0]\n"]
PAIRS = [
    f"{number:02d}" for number in range(100)
]  # a number of four digits is two tokens: copied sooner, read faster
TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def make_tokenizer(texts: Iterable[str], folder: Path, *, vocabulary: int = 1200) -> Any:
    """Train a BPE on `texts`, save it in `folder`, return it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), byte_level])
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[PAD, END, BEGIN, *HEADERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(texts, trainer)
    raw.add_tokens(PHRASES + PAIRS)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=END, pad_token=PAD, padding_side="left", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_model(
    tokenizer: Any, *, context: int = 1024, seed: int = 0, width: int = 192, layers: int = 2
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
