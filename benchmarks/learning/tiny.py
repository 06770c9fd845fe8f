"""A tiny Qwen2 with a BPE of its own, and the base model: taught nothing but to find again what it has read.

A checkpoint folder is one as transformers writes it. The tokenizer splits text as Qwen2's does (each digit alone), and
its chat template marks what the assistant said. Source: Qwen2's `tokenizer.json`; ChatML.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

END, PAD, BEGIN = "<|im_end|>", "<|endoftext|>", "<|im_start|>"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.role == 'assistant' %}{% generation %}{{- m.content + '<|im_end|>' }}{% endgeneration %}{{- '\n' }}"
    "{%- else %}{{- m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def make_tokenizer(texts: Iterable[str], folder: Path, *, vocabulary: int = 600) -> Any:
    """Train a BPE on `texts`, save it in `folder`, return it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=END, pad_token=PAD, padding_side="left", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


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


def recall_text(rng: random.Random, words: list[str]) -> str:
    """Return a document in which numbers stand in one place and are needed in another; it shows no task and no command.

    Facts ("<words> 1234 <words> 5678") come first, then some of them again, in another order.
    """

    def named() -> list[str]:
        return [*rng.choices(words, k=rng.randint(0, 2)), str(rng.randrange(1000, 10_000))]

    facts = [[*named(), *named()] for _ in range(rng.randint(2, 4))]
    again = rng.choices(facts, k=rng.randint(3, 6))
    return "\n".join(" ".join(fact) for fact in [*facts, *again]) + "\n"


def pretrain(
    model: Any, tokenizer: Any, words: list[str], *, seed: int, steps: int, batch: int = 16, length: int = 160,
    rate: float = 1e-3, say: Callable[[str], None] = lambda text: None,
) -> list[float]:  # fmt: skip
    """Teach `model` to recall, in place; returns the loss of each step."""
    import torch

    rng = random.Random(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    losses = []
    model.train()
    for step in range(steps):
        texts = [recall_text(rng, words) + recall_text(rng, words) for _ in range(batch)]
        ids = [tokenizer(text)["input_ids"][:length] for text in texts]
        longest = max(map(len, ids))
        padded = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in ids])
        labels = padded.masked_fill(padded == tokenizer.pad_token_id, -100)
        loss = model(input_ids=padded, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        if step % 100 == 99:
            say(f"step {step + 1}: loss {sum(losses[-100:]) / 100:.3f}")
    return losses
