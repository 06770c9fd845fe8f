"""Trajectories of a model that spoke, by text or by a tokenizer's ids; and a tiny Qwen2 that can learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from terminal_gym.trajectory.dialogue import Message, Turn
from terminal_gym.trajectory.record import Action, Observation, Outcome, Status, Step, Trajectory

HEAD, TAIL = "<|im_start|>", "<|im_end|>"
CORPUS = (
    "You solve a task at a Linux shell, one command a turn.\n```bash\nls -la /app\n```\n[exit code 0]\n",
    "Say what you do.\n```bash\ncat /app/number.txt\n```\n4 8 15 16 23 42\n[exit code 0]\n",
    "```bash\necho 4711 > /app/out.txt\n```\n```bash\n<submit>\n```\n[exit code 1]\n",
)


def tokenizer(folder: Path, *, vocabulary: int = 400) -> Any:
    """Train a small byte-level BPE, as Qwen2 has, and save it in `folder`; it has no chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            show_progress=False,
            special_tokens=["<|endoftext|>", HEAD, TAIL],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=TAIL, pad_token="<|endoftext|>", padding_side="left"
    )
    made.save_pretrained(folder)
    return made


def model(folder: Path, tokens: Any, *, context: int = 1024, ends: Sequence[int] = ()) -> Path:
    """Save a random Qwen2 of about 0.1 million parameters beside its tokenizer; returns the folder."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokens),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        eos_token_id=list(ends) or tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def talk(
    turns: Sequence[tuple[str, str]],
    *,
    task: str = "TerminalTraj/talk",
    attempt: int = 0,
    status: Status = "passed",
    tokens: Any = None,
    malformed: frozenset[int] = frozenset(),
    agent: str = "bash",
) -> Trajectory:
    """Return a trajectory of (what the model was told, what it said).

    Args:
        turns: In order; the first is told the task.
        task: Its ref.
        attempt: The k-th try.
        status: Of the verdict.
        tokens: A tokenizer: the turns then hold ids, sampled as the tokenizer has the replies.
        malformed: Turns whose reply the agent could not read: they share the next one's step.
        agent: Who played.
    """
    steps: list[Step] = []
    held: list[Turn] = []
    length = 0
    for number, (told, said) in enumerate(turns):
        turn = Turn((Message("user", told),), Message("assistant", said), fresh=number == 0)
        if tokens is not None:
            before = f"{HEAD}user\n{told}{TAIL}\n{HEAD}assistant\n"
            prompt = _ids(tokens, before if number == 0 else f"\n{before}")
            output = _ids(tokens, said + TAIL)
            turn = replace(
                turn,
                kept_ids=length,
                prompt_ids=prompt,
                output_ids=output,
                logprobs=tuple(-0.5 for _ in output),
            )
            length += len(prompt) + len(output)
        held.append(turn)
        if number not in malformed:
            action = Action(command=said, text=said, turns=tuple(held))
            steps.append(Step(action, Observation("", "", (0, 0), 0), 1.0 * number, number + 0.5))
            held = []
    return Trajectory(
        task=task,
        task_hash="sha256:task",
        agent=agent,
        runtime="namespace",
        image_digest="sha256:image",
        attempt=attempt,
        seed=0,
        steps=tuple(steps),
        outcome=Outcome(status, {"passed": 1.0, "failed": 0.0, "broken": None}[status]),
        instruction=turns[0][0] if turns else "",
        model="local/tiny",
    )


def _ids(tokens: Any, text: str) -> tuple[int, ...]:
    return tuple(tokens(text, add_special_tokens=False)["input_ids"])
