"""A tiny model with random weights: what is sampled, kept and used again is compared with transformers' own way."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[local]'")
from kit.fake_runtime import FakeRuntime, FileValidator  # noqa: E402
from kit.folders import task_folder  # noqa: E402
from kit.tiny_model import make_tiny  # noqa: E402

from terminal_gym.agents.agent import open_agent  # noqa: E402
from terminal_gym.env import TerminalEnv  # noqa: E402
from terminal_gym.errors import BadSetting, ContextFull, ProviderDown  # noqa: E402
from terminal_gym.llm.chat import Sampling, Tool, open_model  # noqa: E402
from terminal_gym.llm.conversation import Conversation  # noqa: E402
from terminal_gym.llm.local import LocalModel  # noqa: E402
from terminal_gym.rollout.episode import run_episode  # noqa: E402
from terminal_gym.tasks.catalogue import read_folder  # noqa: E402
from terminal_gym.trajectory.dialogue import Message, prompts  # noqa: E402
from terminal_gym.trajectory.record import Trajectory  # noqa: E402

HELLO = [Message("system", "You type."), Message("user", "hello, what is in /app?")]
OTHERS = [[Message("user", "word " * number)] for number in range(1, 9)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(folder: Path) -> Iterator[LocalModel]:
    model = LocalModel(str(folder), max_tokens=24)
    yield model
    model.close()


def _generated(folder: Path, prompt: tuple[int, ...], most: int) -> tuple[list[int], list[float]]:
    """(ids, log-probabilities) as `generate` finds them, greedily and alone"""
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    told = loaded.generate(ids, attention_mask=mask, max_new_tokens=most, do_sample=False, use_cache=False)
    with torch.inference_mode():
        scores = torch.log_softmax(loaded(told).logits[0].float(), -1)
    new = told[0, len(prompt) :].tolist()
    return new, [float(scores[len(prompt) - 1 + at, one]) for at, one in enumerate(new)]


def test_it_says_what_generate_says_and_with_those_chances(model: LocalModel, folder: Path) -> None:
    told = model.complete(HELLO)
    ids, logprobs = _generated(folder, told.prompt_ids, 24)
    assert list(told.output_ids) == ids
    assert told.logprobs == pytest.approx(logprobs, abs=1e-4)
    assert told.usage.prompt_tokens == len(told.prompt_ids) == model.count_tokens(HELLO)
    assert told.usage.completion_tokens == len(told.output_ids)
    assert told.finish == ("length" if len(ids) == 24 and ids[-1] not in model._stops else "stop")


def test_many_threads_share_one_batch_and_none_is_changed_by_the_others(
    model: LocalModel, folder: Path
) -> None:
    with ThreadPoolExecutor(len(OTHERS)) as pool:
        told = list(pool.map(model.complete, OTHERS))
    assert model.decoder.most_rows > 4
    for one in told:
        ids, logprobs = _generated(folder, one.prompt_ids, 24)
        assert list(one.output_ids) == ids
        assert one.logprobs == pytest.approx(logprobs, abs=1e-4)


def test_no_more_at_once_than_asked_for(folder: Path) -> None:
    model = LocalModel(str(folder), batch=3, max_tokens=8)
    with ThreadPoolExecutor(len(OTHERS)) as pool:
        assert len(list(pool.map(model.complete, OTHERS))) == len(OTHERS)
    assert model.decoder.most_rows <= 3
    model.close()


def test_the_next_prompt_begins_with_what_was_read_and_sampled(model: LocalModel, folder: Path) -> None:
    talk = Conversation(model)
    talk.ask(*HELLO)
    talk.ask(Message("user", "and now?"))
    last = talk.ask(Message("user", "and then?"))
    first, second, third = talk.take_turns()
    assert second.kept_ids == len(first.prompt_ids) + len(first.output_ids)
    assert second.usage.cached_tokens == second.kept_ids - 1  # the last id was sampled, and never read
    assert third.usage.cached_tokens == third.kept_ids - 1
    (_, _, whole) = prompts([first, second, third])
    assert whole.ids == last.prompt_ids
    ids, logprobs = _generated(folder, last.prompt_ids, 24)
    assert list(last.output_ids) == ids
    assert last.logprobs == pytest.approx(logprobs, abs=1e-4)


def test_the_whole_prompt_reads_as_the_template_writes_it(model: LocalModel) -> None:
    talk = Conversation(model)
    first = talk.ask(*HELLO)
    last = talk.ask(Message("user", "and now?"))
    tokenizer = model._chats._tokenizer
    end = "" if first.output_ids[-1] in model._stops else "<|im_end|>"  # cut off: the template ends the turn
    said = tokenizer.decode(list(first.prompt_ids)) + tokenizer.decode(list(first.output_ids)) + end
    assert tokenizer.decode(list(last.prompt_ids)) == (
        said + "\n<|im_start|>user\nand now?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_rewritten_history_is_read_anew(model: LocalModel, folder: Path) -> None:
    talk = Conversation(model)
    talk.ask(*HELLO)
    talk.rewrite(HELLO[:1])
    told = talk.ask(Message("user", "something else"))
    assert told.output_ids == model.complete([HELLO[0], Message("user", "something else")]).output_ids
    assert told.usage.cached_tokens < len(told.prompt_ids) - 5


def test_only_so_much_is_kept(folder: Path) -> None:
    for kept, reused in ((0, False), (10, False), (10_000, True)):
        model = LocalModel(str(folder), max_tokens=4, kept_tokens=kept)
        talk = Conversation(model)
        talk.ask(*HELLO)
        assert bool(talk.ask(Message("user", "more")).usage.cached_tokens) == reused
        model.close()


# ── sampling ────────────────────────────────────────────────────────────────────────────────────


def test_a_seed_gives_the_same_reply_and_another_another(folder: Path) -> None:
    model = LocalModel(str(folder), max_tokens=24, temperature=1.5, seed=7)
    same = {model.complete(HELLO).output_ids for _ in range(3)}
    others = {model.complete(HELLO, sampling=Sampling(seed=seed)).output_ids for seed in range(5)}
    model.close()
    assert len(same) == 1
    assert len(others) > 1


def test_samples_come_as_often_as_the_model_says(folder: Path) -> None:
    """One token each, many times: chi-squared against the model's own chances, heated."""
    model = LocalModel(str(folder), max_tokens=1, temperature=2.0, batch=64)
    with ThreadPoolExecutor(64) as pool:
        told = list(pool.map(lambda seed: model.complete(HELLO, sampling=Sampling(seed=seed)), range(600)))
    model.close()
    from transformers import AutoModelForCausalLM

    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([told[0].prompt_ids])).logits[
            0, -1
        ]
    chances = torch.softmax(logits / 2.0, -1)
    counts = torch.bincount(torch.tensor([one.output_ids[0] for one in told]), minlength=len(chances))
    common = chances * 600 >= 5
    expected = torch.cat([chances[common], chances[~common].sum()[None]]) * 600
    found = torch.cat([counts[common], counts[~common].sum()[None]])
    freedom = len(expected) - 1
    assert float(((found - expected) ** 2 / expected).sum()) < freedom + 5 * (2 * freedom) ** 0.5
    assert told[0].logprobs[0] == pytest.approx(
        float(torch.log_softmax(logits, -1)[told[0].output_ids[0]]), abs=1e-4
    )


def test_a_narrow_nucleus_is_the_likeliest_token(model: LocalModel) -> None:
    greedy = model.complete(HELLO).output_ids
    assert model.complete(HELLO, sampling=Sampling(temperature=1.0, top_p=1e-6)).output_ids == greedy


# ── limits and faults ───────────────────────────────────────────────────────────────────────────


def test_a_full_context(model: LocalModel) -> None:
    with pytest.raises(ContextFull, match="of 512 that it has room for"):
        model.complete([Message("user", "word " * 600)])
    nearly = [Message("user", "w" * 480)]
    told = model.complete(nearly, sampling=Sampling(max_tokens=400))
    assert len(told.prompt_ids) + len(told.output_ids) <= 512


def test_what_breaks_in_the_model_is_the_provider_s_fault_and_the_next_is_answered(model: LocalModel) -> None:
    whole = model.decoder._model.model.embed_tokens.weight
    model.decoder._model.model.embed_tokens.weight = torch.nn.Parameter(
        whole[:2].clone()
    )  # its ids are out of range
    with pytest.raises(ProviderDown, match="IndexError"):
        model.complete(HELLO)
    model.decoder._model.model.embed_tokens.weight = whole
    assert model.complete(HELLO).output_ids


def test_closed_while_it_answers(folder: Path) -> None:
    model = LocalModel(str(folder), max_tokens=400)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(model.complete, HELLO)
        while not model.decoder.most_rows:
            assert not asked.done()
        model.close()
        assert asked.exception(timeout=20) is None or isinstance(asked.exception(), ProviderDown)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"adapter": "/nowhere"}, "There is no folder /nowhere"),
        ({"chat_template": "/nowhere.jinja"}, "cannot be read"),
        ({"nonsense": 1}, "cannot be made with"),
    ],
)
def test_settings_that_do_not_fit(folder: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BadSetting, match=words):
        open_model(f"local/{folder}", **settings)


def test_a_folder_that_is_none() -> None:
    with pytest.raises(BadSetting, match="There is no folder"):
        open_model("local//nowhere/at/all")


def test_a_checkpoint_without_a_template(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "bare", template=None)
    with pytest.raises(BadSetting, match="no chat template"):
        open_model(f"local/{folder}")
    template = tmp_path / "own.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}")
    model = open_model(f"local/{folder}", chat_template=str(template), max_tokens=2)
    assert model.complete(HELLO).output_ids
    model.close()


# ── adapters, tools, imports ────────────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft 0.21 asks transformers 5.24 so
def test_a_lora_adapter(folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    wrapped = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False),
    )
    wrapped.save_pretrained(tmp_path / "adapter")
    plain = LocalModel(str(folder), max_tokens=12)
    on_top = LocalModel(str(folder), adapter=str(tmp_path / "adapter"), max_tokens=12)
    by_itself = LocalModel(str(tmp_path / "adapter"), max_tokens=12)
    told = [model.complete(HELLO) for model in (plain, on_top, by_itself)]
    for model in (plain, on_top, by_itself):
        model.close()
    assert told[0].output_ids != told[1].output_ids
    assert told[1].output_ids == told[2].output_ids
    with torch.inference_mode():
        whole = torch.tensor([[*told[1].prompt_ids, *told[1].output_ids]])
        scores = torch.log_softmax(wrapped.eval()(whole).logits[0].float(), -1)
    start = len(told[1].prompt_ids) - 1
    expected = [float(scores[start + at, one]) for at, one in enumerate(told[1].output_ids)]
    assert told[1].logprobs == pytest.approx(expected, abs=1e-4)


def test_tools_are_shown_and_their_calls_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from terminal_gym.llm.local import _calls

    said = 'I look.\n<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>'
    content, (call,) = _calls(said)
    assert (content, call.name, call.arguments) == ("I look.", "bash", '{"command": "ls"}')
    assert _calls("<tool_call>{broken}</tool_call>") == ("<tool_call>{broken}</tool_call>", ())
    template = "{{ tools | length }}{% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}"
    model = LocalModel(str(folder), max_tokens=2)
    model._chats._tokenizer.chat_template = template
    told = model.complete(HELLO, tools=[Tool("bash", "Runs.", {"type": "object", "properties": {}})])
    assert model._chats._tokenizer.decode(list(told.prompt_ids)).startswith("1You type.")
    model.close()


def test_episodes_at_once_share_the_batch_and_keep_every_id(tmp_path: Path) -> None:
    model = LocalModel(str(make_tiny(tmp_path / "long", context=4096)), max_tokens=8, temperature=1.0, seed=3)
    task = read_folder(task_folder(tmp_path))

    def play(number: int) -> Trajectory:
        machine = FakeRuntime()
        settings = {"runtime": machine, "validator": FileValidator(), "max_steps": 3}
        with TerminalEnv(task, **settings) as env:
            return run_episode(env, open_agent("bash", model=model), attempt=number)

    with ThreadPoolExecutor(4) as pool:
        played = list(pool.map(play, range(4)))
    model.close()
    assert model.decoder.most_rows > 1
    for one in played:
        assert one.outcome.status == "failed"
        whole = list(prompts(one.turns))
        assert len(whole) >= 2
        for before, after in itertools.pairwise(whole):
            assert after.ids[: len(before.ids) + len(before.turn.output_ids)] == (
                *before.ids,
                *before.turn.output_ids,
            )
            assert after.turn.usage.cached_tokens == len(before.ids) + len(before.turn.output_ids) - 1
        assert all(len(turn.logprobs) == len(turn.output_ids) > 0 for turn in one.turns)


def test_torch_is_imported_only_when_asked_for() -> None:
    program = "import sys, terminal_gym, terminal_gym.llm.local; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
