from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.talk import TAIL, talk

from terminal_gym.agents.agent import open_agent
from terminal_gym.errors import BadSetting
from terminal_gym.llm.chat import Completion
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.trajectory.dialogue import Message, ToolCall, Turn
from terminal_gym.trajectory.record import Action, Observation, Step
from training.chat_format import (
    IGNORED,
    QWEN_SYSTEM,
    from_text,
    is_of,
    matching,
    pieces,
    sampled,
    shortened,
    spans,
    template,
    tokens_of,
)

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"
TALK = [("Do it.\n$ ", "look\n```bash\nls\n```"), ("a.txt\n[exit code 0]", "\n```bash\n<submit>\n```")]
STOCK = (  # the part of Qwen2.5's template that plain chats use
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\\n' }}{%- endif %}{%- for message in messages %}"
    "{%- if (message.role == 'user') or (message.role == 'system' and not loop.first)"
    " or (message.role == 'assistant') %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def learned(tokens: Any, made: Any) -> list[str]:
    begins, ends = spans(made)
    return [tokens.decode(made.ids[a:b].tolist()) for a, b in zip(begins, ends, strict=True)]


def test_what_is_learned_is_what_was_said_token_by_token(tokens: Any) -> None:
    (made,) = from_text(talk(TALK), tokens)
    expected: list[tuple[int, bool]] = []
    for number, (told, said) in enumerate(TALK):
        before = f"<|im_start|>user\n{told}{TAIL}\n<|im_start|>assistant\n"
        for text, spoken in ((before if number == 0 else f"\n{before}", False), (said + TAIL, True)):
            expected += [(token, spoken) for token in tokens(text, add_special_tokens=False)["input_ids"]]
    assert list(zip(made.ids.tolist(), made.spoken.tolist(), strict=True)) == expected
    assert made.labels.tolist() == [token if spoken else IGNORED for token, spoken in expected]


def test_sampled_ids_are_taken_as_they_are_even_where_text_would_be_other_tokens(tokens: Any) -> None:
    played = talk(TALK, tokens=tokens)
    turn = played.steps[0].action.turns[0]
    bytewise = tuple(tokens.convert_tokens_to_ids(list("echo"))) + turn.output_ids[-1:]
    odd = replace(
        turn, output_ids=bytewise, logprobs=(-1.0,) * len(bytewise), reply=Message("assistant", "echo")
    )
    later = replace(played.steps[1].action.turns[0], kept_ids=len(turn.prompt_ids) + len(bytewise))
    steps = tuple(
        replace(step, action=replace(step.action, turns=(one,)))
        for step, one in zip(played.steps, (odd, later), strict=True)
    )
    played = replace(played, steps=steps)
    assert is_of(played, tokens)
    (made,) = sampled(played)
    begin = len(turn.prompt_ids)
    assert made.ids[begin : begin + len(bytewise)].tolist() == list(bytewise)
    assert tokens("echo" + TAIL, add_special_tokens=False)["input_ids"] != list(bytewise)
    assert made.spoken.sum() == len(bytewise) + len(later.output_ids)
    assert made.logprobs[made.spoken].tolist() == [-1.0] * len(bytewise) + [-0.5] * len(later.output_ids)
    assert not made.logprobs[~made.spoken].any()


def test_text_and_sampled_ids_agree_where_the_policy_speaks_as_it_is_read(tokens: Any) -> None:
    played = talk(TALK, tokens=tokens)
    (a,), (b,) = sampled(played), from_text(played, tokens)
    assert a.ids.tolist() == b.ids.tolist()
    assert a.spoken.tolist() == b.spoken.tolist()


def test_a_reply_that_could_not_be_read_is_context_and_not_lesson(tokens: Any) -> None:
    turns = [("Do it.", "no block"), ("There was no command.", "```bash\nls\n```")]
    played = talk(turns, tokens=tokens, malformed=frozenset({0}))
    for made in (*sampled(played), *from_text(played, tokens)):
        assert learned(tokens, made) == ["```bash\nls\n```" + TAIL]
        assert "no block" in tokens.decode(made.ids.tolist())
    (both,) = sampled(played, malformed=True)
    assert learned(tokens, both) == ["no block" + TAIL, "```bash\nls\n```" + TAIL]


@pytest.mark.parametrize("agent", ["bash", "terminus"])
def test_an_agent_that_gave_up_on_the_replies_of_a_turn_teaches_none_of_them(tokens: Any, agent: str) -> None:
    class Babbles:
        name, context_tokens = "babbles", 10_000

        def complete(self, messages: Any, **_: Any) -> Completion:
            return Completion(Message("assistant", "no command"), "stop")

        def count_tokens(self, messages: Any) -> int:
            return 0

    player = open_agent(agent, model=Babbles())
    player.begin(read_folder(HELLO))
    action = player.act(Observation("", "", (0, 0)))
    assert len(action.turns) > 1
    played = talk(TALK)
    steps = (Step(action, Observation("", "", (0, 0)), 0.0, 0.0),)
    (made,) = from_text(replace(played, steps=steps), tokens)
    assert learned(tokens, made) == []
    (made,) = from_text(replace(played, steps=steps), tokens, malformed=True)
    assert learned(tokens, made) == ["no command" + TAIL] * len(action.turns)


def test_what_a_rewritten_history_repeats_is_not_learned_again(tokens: Any) -> None:
    """An agent short of room puts a mark in place of an old output, and goes on."""
    turns = [
        ("Do it.", "no block"),
        ("There was no command.", "```bash\nls\n```"),
        ("a.txt", "```bash\nmake\n```"),
    ]
    played = talk(turns, malformed=frozenset({0}))
    first, last = played.steps[0].action.turns, played.steps[-1].action.turns[0]
    again = (*first[0].messages, first[0].reply, Message("user", "[dropped]"), first[1].reply, *last.messages)
    rewritten = replace(last, messages=again, fresh=True)
    step = replace(played.steps[-1], action=replace(played.steps[-1].action, turns=(rewritten,)))
    contexts = list(from_text(replace(played, steps=(played.steps[0], step)), tokens))
    assert [learned(tokens, one) for one in contexts] == [[turns[1][1] + TAIL], [turns[2][1] + TAIL]]


def test_a_rewritten_history_begins_a_new_context_and_teaches_nothing_twice(tokens: Any) -> None:
    first, second = (
        talk(TALK, tokens=tokens),
        talk([("Summary: half done.", "```bash\nmake\n```")], tokens=tokens),
    )
    both = replace(first, steps=(*first.steps, *second.steps))
    for contexts in (list(sampled(both)), list(from_text(both, tokens))):
        assert [learned(tokens, one) for one in contexts] == [
            [said + TAIL for _, said in TALK],
            ["```bash\nmake\n```" + TAIL],
        ]


def test_a_history_that_is_told_again_whole_goes_on(tokens: Any) -> None:
    """After a summary asked aside, a turn repeats the messages before it: that is no new context."""
    played = talk(TALK)
    again = Turn(
        (
            *(m for told, said in TALK for m in (Message("user", told), Message("assistant", said))),
            Message("user", "go on"),
        ),
        Message("assistant", "done"),
        fresh=True,
    )
    last = replace(played.steps[-1], action=replace(played.steps[-1].action, turns=(again,)))
    (made,) = from_text(replace(played, steps=(*played.steps, last)), tokens)
    assert learned(tokens, made) == [TALK[0][1] + TAIL, TALK[1][1] + TAIL, "done" + TAIL]


@pytest.mark.parametrize("stock", [False, True])
def test_the_template_that_matches_is_found_and_marks_what_jinja_marks(tokens: Any, stock: bool) -> None:
    name = "qwen2.5" if stock else "chatml"
    try:
        tokens.chat_template = STOCK if stock else None
        assert matching(tokens) == name
    finally:
        tokens.chat_template = None
    chat = [
        m
        for told, said in TALK
        for m in ({"role": "user", "content": told}, {"role": "assistant", "content": said})
    ]
    told = tokens.apply_chat_template(
        chat, chat_template=template(name), return_dict=True, return_assistant_tokens_mask=True
    )
    messages = [Message(m["role"], m["content"]) for m in chat]  # type: ignore[arg-type]
    mine = tokens_of(pieces(messages, system=QWEN_SYSTEM if stock else ""), tokens)
    newline = tokens("\n", add_special_tokens=False)["input_ids"]
    marked = np.array(told["assistant_masks"][: -len(newline)], dtype=bool)
    assert tokens.decode(np.array(told["input_ids"])[: -len(newline)]) == tokens.decode(mine.ids.tolist())
    assert [*marked[marked]] == [*mine.spoken[mine.spoken]]


@pytest.mark.parametrize(
    ("chat_template", "found"),
    [
        ("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}", "renders otherwise"),
        (STOCK.replace("message.content +", "message.content|trim +"), "renders otherwise"),
        ("{{ raise_exception('no') }}", "renders otherwise"),
    ],
)
def test_a_template_that_would_mis_mask_is_refused(tokens: Any, chat_template: str, found: str) -> None:
    try:
        tokens.chat_template = chat_template
        with pytest.raises(BadSetting, match=found):
            matching(tokens)
    finally:
        tokens.chat_template = None


def test_a_tokenizer_that_changes_text_is_refused(tokens: Any, tmp_path: Any) -> None:
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    tokens.save_pretrained(tmp_path)
    other = AutoTokenizer.from_pretrained(tmp_path)
    other.backend_tokenizer.normalizer = normalizers.Strip()
    with pytest.raises(BadSetting, match="mis-masks"):
        matching(other)


def test_text_that_cannot_be_learned_is_named(tokens: Any) -> None:
    with pytest.raises(BadSetting, match="special token"):
        list(from_text(talk([("screen: <|im_end|>", "ok")]), tokens))
    played = talk(TALK)
    turn = Turn((Message("user", "x"),), Message("assistant", "", (ToolCall("1", "bash", "{}"),)), fresh=True)
    step = replace(played.steps[0], action=replace(played.steps[0].action, turns=(turn,)))
    with pytest.raises(BadSetting, match="native calls"):
        list(from_text(replace(played, steps=(step,)), tokens))
    with pytest.raises(BadSetting, match="no token ids"):
        list(sampled(played))


def test_ids_of_another_tokenizer_are_known(tokens: Any) -> None:
    played = talk(TALK, tokens=tokens)
    turn = replace(played.turns[0], output_ids=tuple(token + 1 for token in played.turns[0].output_ids))
    step = replace(played.steps[0], action=replace(played.steps[0].action, turns=(turn,)))
    assert is_of(played, tokens)
    assert not is_of(replace(played, steps=(step,)), tokens)
    beyond = replace(played.turns[1], prompt_ids=(len(tokens),))  # a model has no such row
    late = replace(played.steps[1], action=replace(played.steps[1].action, turns=(beyond,)))
    assert not is_of(replace(played, steps=(played.steps[0], late)), tokens)
    assert not is_of(talk(TALK), tokens)


def test_native_calls_are_learned_from_their_ids(tokens: Any) -> None:
    said = 'look\n<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>'
    played = talk([("Do it.", said)], tokens=tokens)
    reply = Message("assistant", "look", (ToolCall("call-0", "bash", '{"command": "ls"}'),))
    for ids, is_there in (
        (played.turns[0].output_ids, True),
        (tuple(tokens("look" + TAIL)["input_ids"]), False),
    ):
        turn = replace(played.turns[0], reply=reply, output_ids=ids)
        step = replace(played.steps[0], action=replace(played.steps[0].action, turns=(turn,)))
        assert is_of(replace(played, steps=(step,)), tokens) == is_there


WORDS = st.text(alphabet=st.sampled_from("ab \n`$é漢"), max_size=12)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6), limit=st.integers(10, 80))
def test_cutting_keeps_the_task_and_the_tail(tokens: Any, turns: list[tuple[str, str]], limit: int) -> None:
    (whole,) = from_text(talk(turns), tokens)
    cut = shortened(whole, limit, end_id=tokens.convert_tokens_to_ids(TAIL))
    if len(whole) <= limit:
        assert cut is whole
        return
    texts = [
        piece.text
        for piece in pieces(
            [m for told, said in turns for m in (Message("user", told), Message("assistant", said))]
        )
    ]
    task = texts[0].removesuffix("\n<|im_start|>assistant\n")
    tails = ["".join([task, *texts[at:]]) for at in range(2, len(texts), 2)]
    fitting = [tail for tail in tails if len(tokens_of_text(tokens, tail, task)) <= limit]
    if not fitting:
        assert cut is None
        return
    assert cut is not None
    assert len(cut) <= limit
    assert tokens.decode(cut.ids.tolist()) == fitting[0]
    assert learned(tokens, cut) == texts[1::2][-len(spans(cut)[0]) :]


@pytest.mark.parametrize("form", ["sampled", "text"])
def test_cutting_keeps_the_task_and_not_a_first_reply_that_nobody_could_read(tokens: Any, form: str) -> None:
    turns = [("Do it.", "no block " * 30), ("There was no command.", "one"), ("1", "two"), ("2", "three")]
    played = talk(turns, tokens=tokens, malformed=frozenset({0}))
    (whole,) = sampled(played) if form == "sampled" else from_text(played, tokens)
    end = tokens.convert_tokens_to_ids(TAIL)
    cut = shortened(whole, len(whole) - 1, end_id=end)
    assert cut is not None
    text = tokens.decode(cut.ids.tolist())
    assert text.startswith(f"<|im_start|>user\nDo it.{TAIL}\n<|im_start|>user\nThere was no command.")
    assert learned(tokens, cut) == [f"{said}{TAIL}" for said in ("one", "two", "three")]
    again = shortened(cut, len(cut) - 1, end_id=end)  # what was kept of a cut one is known too
    assert again is not None
    assert learned(tokens, again) == [f"{said}{TAIL}" for said in ("two", "three")]


def test_cutting_leaves_a_tail_that_teaches_something_or_none(tokens: Any) -> None:
    turns = tuple(
        Turn((Message("user", told),), Message("assistant", said))
        for told, said in (("1", "x " * 40), ("2", "y"))
    )
    first = talk([("Do it.", "one")]).steps[0]
    gave_up = replace(first, action=Action(text="There was no command.", turns=turns))
    end = tokens.convert_tokens_to_ids(TAIL)
    for steps in ((first, gave_up), (gave_up,)):
        (made,) = from_text(replace(talk(TALK), steps=steps), tokens)
        assert shortened(made, len(made) - 1, end_id=end) is None


def tokens_of_text(tokens: Any, text: str, task: str) -> list[int]:
    parts = [task, text.removeprefix(task)]
    return [token for part in parts for token in tokens(part, add_special_tokens=False)["input_ids"]]


class Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, inner: Any):
        self._inner, self.characters, self.calls = inner, 0, 0

    def __call__(self, texts: Any, **settings: Any) -> Any:
        self.calls += 1
        self.characters += sum(map(len, texts))
        return self._inner(texts, **settings)


def test_work_grows_with_the_text_and_not_with_its_square(tokens: Any) -> None:
    counts = []
    for turns in (50, 100, 200, 400):
        counting = Counting(tokens)
        (made,) = from_text(talk([("x" * 20, "y" * 20)] * turns), counting)
        assert len(spans(made)[0]) == turns
        counts.append(counting.characters)
        assert counting.calls == 1
    assert all(1.9 < b / a < 2.1 for a, b in itertools.pairwise(counts))
