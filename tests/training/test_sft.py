from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.processes import ON_CPU, TWO_PROCESSES
from kit.talk import TAIL, talk

from terminal_gym.cli.app import main
from terminal_gym.errors import BadSetting, RunBusy, StoreError, UnknownName
from terminal_gym.trajectory.store import RunWriter
from training import folder, sft
from training.cards import model_card
from training.chat_format import IGNORED
from training.examples import Choice, make_table
from training.settings import Lora, Model
from training.sft import Sft
from training.table import read_facts, read_rows

REPLY = "look\n```bash\ncat /app/{}.txt\n```"
STEPS = {
    "per_device_train_batch_size": 4,
    "learning_rate": 0.01,
    "logging_steps": 1,
    "seed": 3,
    "save_strategy": "no",
}
GENTLE = {
    "max_steps": 3,
    "learning_rate": 1e-4,
}  # beside batches of the whole table: their order does not matter
QUICK = {**STEPS, "lr_scheduler_type": "constant", "disable_tqdm": True}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, tiny: Path, tokens: Any) -> Path:
    folder = tmp_path_factory.mktemp("table")
    with RunWriter(folder / "run", {"tasks": {}}) as run:
        for k in range(16):
            turns = [(f"Read {k}.", REPLY.format(k)), ("4 8 15\n[exit code 0]", "```bash\n<submit>\n```")]
            run.append(talk(turns, task=f"T/{k}", tokens=tokens))
    choice = Choice(max_tokens=256)
    return make_table(
        [folder / "run"], folder / "table", tokens, tokenizer_name=str(tiny), choice=choice
    ).folder


def settings(tmp_path: Path, tiny: Path, table: Path, **changed: Any) -> Sft:
    trainer = {**QUICK, "max_steps": 8, **changed.pop("trainer", {})}
    made = Sft(
        model=Model(str(tiny), dtype="float32"),
        table=str(table),
        out=str(tmp_path / "out"),
        context_tokens=256,
        needs_gpu=False,
        trainer=trainer,
    )
    return replace(made, **changed)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(next(folder.glob("*.safetensors"))))


def test_the_loss_goes_down_and_the_model_says_what_it_learned(
    tmp_path: Path, tiny: Path, table: Path, tokens: Any
) -> None:
    longer = {"max_steps": 60, "per_device_train_batch_size": 8}
    told = sft.train(sft.prepare(settings(tmp_path, tiny, table, trainer=longer)))
    assert told["steps"] == 60
    assert told["last_loss"] < told["first_loss"] / 10
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = Path(told["model"])
    model, saved = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    row = next(iter(read_rows(table)))
    first = next(at for at, label in enumerate(row["labels"]) if label != IGNORED)
    said = model.generate(torch.tensor([row["input_ids"][:first]]), max_new_tokens=60, do_sample=False)[
        0, first:
    ]
    assert tokens.decode(said).endswith(TAIL)
    assert tokens.decode(said).startswith("look\n```bash\ncat /app/")
    chat = [{"role": "user", "content": "Read 3."}]
    asked = saved.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert asked == "<|im_start|>user\nRead 3.<|im_end|>\n<|im_start|>assistant\n"
    card = (place / "README.md").read_text("utf-8")
    assert f"{told['last_loss']:.4f} at last" in card
    assert json.loads((tmp_path / "out" / "history.json").read_text())[0]["loss"] == told["first_loss"]


def test_a_card_names_a_base_of_the_hub_and_no_folder(
    tmp_path: Path, tiny: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = settings(tmp_path, tiny, table)
    told = {"steps": 1, "first_loss": None, "last_loss": None, "eval_loss": None}
    monkeypatch.chdir(tiny.parent)
    for name, is_there in (("Qwen/Qwen2.5-Coder-7B", True), (str(tiny), False), (f"{tiny.name}/", False)):
        card = model_card(replace(made, model=Model(name)), read_facts(table), told)
        assert (f"base_model: {name}" in card) == is_there


def test_what_reaches_the_model_is_masked_token_by_token(tmp_path: Path, tiny: Path, table: Path) -> None:
    trainer = sft.make_trainer(sft.prepare(settings(tmp_path, tiny, table)))
    rows = {tuple(row["input_ids"]): row["labels"] for row in read_rows(table)}
    seen = 0
    for batch in trainer.get_train_dataloader():
        for ids, labels, mask in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
        ):
            length = int(mask.sum())
            assert labels[:length].tolist() == rows[tuple(ids[:length].tolist())]
            assert (labels[length:] == IGNORED).all()
            seen += 1
    assert seen == len(rows)


def test_packed_documents_do_not_see_one_another(tmp_path: Path, tiny: Path, table: Path) -> None:
    """The loss over packed rows is that over the same documents alone."""
    losses = {}
    for packing in (False, True):
        made = settings(
            tmp_path / str(packing), tiny, table, packing=packing, trainer={"per_device_train_batch_size": 1}
        )
        trainer = sft.make_trainer(sft.prepare(made))
        total, count = 0.0, 0
        for batch in trainer.get_train_dataloader():
            learned = int((batch["labels"] != IGNORED).sum())
            with torch.no_grad():
                total += learned * float(trainer.compute_loss(trainer.model, dict(batch)))
            count += learned
        losses[packing] = (total / count, count, len(trainer.train_dataset))
    assert losses[True][1] == losses[False][1]
    assert losses[True][2] < losses[False][2]
    assert losses[True][0] == pytest.approx(losses[False][0], rel=1e-5)


def test_resumed_training_ends_with_the_same_weights(tmp_path: Path, tiny: Path, table: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    whole = settings(tmp_path / "whole", tiny, table, trainer=saving)
    sft.train(sft.prepare(whole))
    cut = settings(tmp_path / "cut", tiny, table, trainer=saving)
    ready = sft.prepare(cut)
    folder.begin(Path(cut.out), sft.plain(cut), resume=False)
    trainer = sft.make_trainer(ready, callbacks=(StopAt(4),))
    trainer.train()
    torn = Path(cut.out) / "checkpoints" / "checkpoint-6"  # what a kill while saving leaves
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    said: list[str] = []
    told = sft.train(sft.prepare(cut), resume=True, say=said.append)
    assert "checkpoint-4" in said[0]
    assert told["steps"] == 6
    a, b = weights(Path(whole.out) / "model"), weights(Path(cut.out) / "model")
    assert all(torch.equal(a[name], b[name]) for name in a)


class StopAt:
    """Ends training after a step, as a kill between two checkpoints would."""

    def __new__(cls, step: int) -> Any:
        from transformers import TrainerCallback

        def on_step_end(self: Any, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_training_stop = state.global_step >= step
            return control

        return type("Stop", (TrainerCallback,), {"on_step_end": on_step_end})()


def test_an_adapter_is_trained_and_merged(tmp_path: Path, tiny: Path, table: Path) -> None:
    told = sft.train(sft.prepare(settings(tmp_path, tiny, table, lora=Lora(rank=4, alpha=8))))
    adapter = Path(told["model"])
    assert adapter.name == "adapter"
    assert told["last_loss"] < told["first_loss"]
    assert not any("lm_head" in name for name in weights(adapter))
    with pytest.raises(SystemExit, match="0"):
        main(["train", "merge", str(adapter), "--out", str(tmp_path / "merged")])
    cards = [(folder / "README.md").read_text("utf-8") for folder in (adapter, tmp_path / "merged")]
    assert ["library_name: peft" in card for card in cards] == [True, False]
    assert "library_name: transformers" in cards[1]
    before, after = weights(tiny), weights(tmp_path / "merged")
    assert before.keys() == after.keys()
    assert sum(not torch.equal(before[name], after[name]) for name in before) >= 14
    with pytest.raises(BadSetting, match="exists"):
        sft.merge(adapter, tmp_path / "merged")
    with pytest.raises(BadSetting, match="holds no adapter"):
        sft.merge(tiny, tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        sft.merge(adapter, tmp_path / "file" / "out")
    facts = json.loads((adapter / "adapter_config.json").read_text())
    facts["base_model_name_or_path"] = str(tmp_path / "gone")
    (adapter / "adapter_config.json").write_text(json.dumps(facts))
    with pytest.raises(BadSetting, match="or the base that it names cannot be loaded"):
        sft.merge(adapter, tmp_path / "other")
    assert not list(tmp_path.glob("*other*"))


def config_file(made: Sft, file: Path) -> Path:
    file.write_text(json.dumps(sft.plain(made)))  # JSON is YAML
    return file


@pytest.mark.slow
@pytest.mark.timeout(900)  # it starts Python, torch and trl three times
def test_two_processes_train_as_one(tmp_path: Path, tiny: Path, table: Path) -> None:
    """As on two GPUs: the same table, the gradients of both, one model."""
    made = settings(tmp_path, tiny, table, trainer={"per_device_train_batch_size": 8, **GENTLE})
    config = config_file(made, tmp_path / "sft.yaml")
    command = [sys.executable, "-m", *TWO_PROCESSES, "-m", "training.sft", "--config", str(config), "--json"]
    how: dict[str, Any] = {"cwd": Path(__file__).parents[2], "env": os.environ | ON_CPU, "timeout": 800}
    how |= {"capture_output": True, "text": True}
    done = subprocess.run(command, **how)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["steps"] == 3, "both processes spoke"
    again = subprocess.run(command, **how)
    assert again.returncode != 0
    assert again.stderr.count("exists. Go on with it (--resume)") == 2
    assert "This is a bug" not in again.stderr
    (end,) = [
        one for one in json.loads((tmp_path / "out" / "history.json").read_text()) if "train_loss" in one
    ]
    assert end["epoch"] == 3.0, "a step was not two processes' half of the table each"
    alone = settings(tmp_path / "alone", tiny, table, trainer={"per_device_train_batch_size": 16, **GENTLE})
    told = sft.train(sft.prepare(alone))
    losses = [
        entry["loss"]
        for entry in json.loads((tmp_path / "out" / "history.json").read_text())
        if "loss" in entry
    ]
    single = json.loads((tmp_path / "alone" / "out" / "history.json").read_text())
    assert losses == pytest.approx([entry["loss"] for entry in single if "loss" in entry], rel=1e-3)
    a, b = weights(tmp_path / "out" / "model"), weights(Path(told["model"]))
    assert all(torch.allclose(a[name], b[name], atol=1e-3) for name in a)


def test_the_command_checks_first_and_begins_nothing_that_does_not_fit(
    tmp_path: Path, tiny: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(config_file(settings(tmp_path, tiny, table), tmp_path / "sft.yaml"))
    with pytest.raises(SystemExit, match="0"):
        main(["train", "sft", "--config", config, "--check"])
    assert "everything fits; 16 rows" in capsys.readouterr().out
    for words, found in (
        (["--set", "context_tokens=4096"], "was made for 1024"),
        (["--set", "context_tokens=128"], "rows of up to 256 tokens"),
        (["--set", "trainer.learning_rat=1"], "Did you mean 'learning_rate'"),
        (["--set", "trainer.max_length=1"], "set by other settings"),
        (["--set", "trainer.lr_scheduler_type=steep"], "does not accept"),
        (["--set", "trainer.eval_strategy=epoch"], "holds nothing out. Make the table with --eval-share"),
        (["--set", "needs_gpu=true"], "needs a GPU" if not torch.cuda.is_available() else "everything"),
        (["--set", "table=nowhere"], "is no training table"),
        (["--set", "oops"], "is no setting"),
        (["--resume"], "holds no training to go on with"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["train", "sft", "--config", config, *words])
        assert found in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    made = sft.prepare(settings(tmp_path, tiny, table))
    folder.begin(tmp_path / "out", sft.plain(made.settings), resume=False)
    with pytest.raises(BadSetting, match="exists"):
        folder.begin(tmp_path / "out", sft.plain(made.settings), resume=False)
    with pytest.raises(BadSetting, match="begun with another context_tokens"):
        folder.begin(tmp_path / "out", sft.plain(replace(made.settings, context_tokens=8)), resume=True)


def test_a_training_that_still_goes_on_is_not_gone_on_with_beside_it(
    tmp_path: Path, tiny: Path, table: Path
) -> None:
    ready = sft.prepare(settings(tmp_path, tiny, table, trainer={"max_steps": 1}))
    out = Path(ready.settings.out)
    folder.begin(out, sft.plain(ready.settings), resume=False)
    with folder.held(out), pytest.raises(RunBusy, match="is being written to by process"):
        sft.train(ready, resume=True)
    assert sft.train(ready, resume=True)["steps"] == 1


def test_a_folder_in_the_way_is_found_by_the_check_too(
    tmp_path: Path, tiny: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(config_file(settings(tmp_path, tiny, table), tmp_path / "sft.yaml"))
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "settings.yaml").write_text("")  # a kill came before the first byte
    for out, words, found in (
        ("file", [], "file exists. Go on with it"),
        ("full", [], "full exists. Go on with it"),
        ("file/out", [], "file is no folder"),
        ("full", ["--resume"], "is not whole"),
    ):
        for check in (["--check"], []):
            with pytest.raises(SystemExit, match="2"):
                main(["train", "sft", "--config", config, "--set", f"out={tmp_path / out}", *words, *check])
            assert found in capsys.readouterr().err


def test_a_trainer_that_cannot_be_made_says_why_and_leaves_no_folder(
    tmp_path: Path, tiny: Path, table: Path
) -> None:
    for changed, found in (
        ({"lora": Lora(targets="nothing")}, "Target modules.*nothing"),
        ({"trainer": {"assistant_only_loss": True}}, "The trainer cannot be made"),
    ):
        with pytest.raises(BadSetting, match=found):
            sft.train(sft.prepare(settings(tmp_path, tiny, table, **changed)))
        assert not (tmp_path / "out").exists()


def test_a_table_of_another_tokenizer_and_masks_too_wide_are_refused(
    tmp_path: Path, tiny: Path, table: Path, tokens: Any
) -> None:
    from kit.talk import model, tokenizer

    other = model(tmp_path / "other", tokenizer(tmp_path / "other", vocabulary=300))
    with pytest.raises(BadSetting, match="was made with the tokenizer of"):
        sft.prepare(replace(settings(tmp_path, tiny, table), model=Model(str(other))))
    with pytest.raises(BadSetting, match=r"a mask of 1\.0 GiB"):
        sft.prepare(settings(tmp_path, tiny, table, packing=True, context_tokens=32_768))
    with pytest.raises(UnknownName):
        sft.prepare(settings(tmp_path, tiny, table, trainer={"nothing": 1}))
    if not torch.cuda.is_available():
        with pytest.raises(BadSetting, match="activation_offloading needs a GPU"):
            sft.prepare(settings(tmp_path, tiny, table, trainer={"activation_offloading": True}))
