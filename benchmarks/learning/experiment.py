"""The closed loop, stage by stage: tasks → teacher → SFT → rollouts → RFT → rollouts, and a blind student beside it.

Everything between the stages is files, and everything that is done to them is a `tgym` command; what is made here is
the untrained model, its tokenizer, and the words of the teacher and of the judge. A stage that is whole is not run
again, so the experiment goes on where it was stopped:

    OUT/settings.json                     what was asked for; going on with other settings is refused
    OUT/tasks/{train,test}/               tgym registry generate
    OUT/teacher-DOMAIN/                   tgym rollout of the teacher
    OUT/noisy/                            likewise of a teacher that errs; judged by `tgym judge`
    OUT/tables/NAME/                      tgym train examples: what is learned from
    OUT/seed-S/base/                      the untrained model
    OUT/seed-S/{sft,blind,more,…}/        tgym train sft; more and faster go on from sft without new data
    OUT/seed-S/rft/                       tgym train rft: practice of sft on more training tasks, on what passed
    OUT/seed-S/on-NAME/                   tgym rollout of it on the held-out tasks
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.learning.blind import BlindModel, hide
from benchmarks.learning.judge import Judge
from benchmarks.learning.report import SOURCES, rows_in
from benchmarks.learning.server import Speaker, serving
from benchmarks.learning.teacher import Teacher
from benchmarks.learning.tiny import make_model, make_tokenizer
from terminal_gym.errors import BadSetting, TerminalGymError
from terminal_gym.tasks.manifest import read_manifest
from terminal_gym.trajectory.store import Run

_GENTLY = 0.2  # of the rate, where a student that has learned goes on: at full rate it forgets first
_FASTER = 0.6  # likewise, of the second control
_REPLY_TOKENS = 48  # of the student, at most; the longest command of the teacher has about 30


@dataclass(frozen=True)
class Settings:
    """How large the experiment is."""

    families: tuple[str, ...] = ()  # of tasks; none: every family
    lessons: int = 40  # training tasks of each family that the teacher plays
    practice: int = 8  # more of them, on which the student practises
    test: int = 2  # held-out tasks of each family
    attempts: int = 16  # at each held-out task
    blind_attempts: int = 4  # likewise, of the blind student
    base_attempts: int = 16  # likewise, of the untrained model
    control_attempts: int = 16  # likewise, of `more`
    practice_attempts: int = 4
    practice_rounds: int = 2
    sft_steps: int = 400
    rft_steps: int = 60  # in each round
    noisy: int = 80  # of (c): training tasks of each family that a teacher plays who errs
    errs: float = 0.4  # of (c): share of that teacher's episodes that hold a mistake
    sizes: tuple[int, ...] = (30, 60)  # of (c): rows of each domain in a table, whoever chose them
    side_attempts: int = 4  # of (c) and (e), at each held-out task
    context: int = 768  # tokens
    width: int = 192
    layers: int = 2  # two layers copy what was shown; more of them, but narrower, learned it later
    rate: float = 3e-3
    temperature: float = 1.0  # of every student, in practice and on the held-out tasks


class OutOfTime(TerminalGymError):
    """The time given is over; the same command goes on."""


class StageFailed(TerminalGymError, RuntimeError):
    """A command of a stage ended with an error."""


class Experiment:
    """One experiment in one folder.

    Args:
        folder: Made, or gone on with.
        settings: How large.
        ends_by: When to stop, as `time.monotonic` counts.
        concurrency: Episodes at once.
        say: Told what happens.

    Raises:
        BadSetting: The folder was begun with other settings.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        ends_by: float = float("inf"),
        concurrency: int = 8,
        threads: int = 1,
        say: Callable[[str], None] = lambda text: None,
    ):
        self.folder, self.settings = folder.absolute(), settings
        self._ends_by, self._concurrency, self._say = ends_by, concurrency, say
        self._threads = threads
        self._domain_of: dict[str, str] = {}  # of the training tasks, once they are there
        self.folder.mkdir(parents=True, exist_ok=True)
        asked, file = json.dumps(asdict(settings), indent=1), self.folder / "settings.json"
        if not file.exists():
            file.write_text(asked, "utf-8")
        elif file.read_text("utf-8") != asked:
            raise BadSetting(
                f"{folder} was begun with other settings: {file.read_text('utf-8')}. Name another."
            )

    # ── shared by the seeds ─────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """Tasks, the teacher's trajectories, the tokenizer, and the table of lessons."""
        asked = self.settings
        kinds = [word for family in asked.families for word in ("--family", family)]
        counts = {"train": max(asked.lessons + asked.practice, asked.noisy), "test": asked.test}
        for split, count in counts.items():
            with self._whole(self.folder / "tasks" / split) as draft:
                if draft is not None:
                    how = ["--count", str(count), "--split", split, "--out", str(draft)]
                    self._tgym("registry", "generate", *kinds, *how)
        practised = range(asked.lessons, asked.lessons + asked.practice)
        self._manifest("practice", lambda task: _number(task) in practised)
        for domain in self.domains():
            taught = self._manifest(
                f"taught-{domain}",
                lambda task, domain=domain: (  # type: ignore[misc]
                    _number(task) < asked.lessons and self._domain(task) == domain
                ),
            )
            self._teach(f"teacher-{domain}", taught)
        with self._whole(self.folder / "tokenizer") as draft:
            if draft is not None:
                make_tokenizer([m["content"] for row in self._told() for m in row["messages"]], draft)
        self._table("lessons", self._teachers())

    def domains(self) -> list[str]:
        """Return the domains of the training tasks."""
        return sorted({self._domain(task) for task in self._train_tasks()})

    # ── one seed ────────────────────────────────────────────────────────────────────────────────

    def base(self, seed: int) -> None:
        """The untrained model, on the held-out tasks."""
        self._begin(seed)
        self._examine(seed, "base", attempts=self.settings.base_attempts)

    def sft(self, seed: int) -> None:
        """Supervised on what the validators passed of the teacher's trajectories."""
        self._begin(seed)
        self._fit(seed, "sft", "lessons")
        self._examine(seed, "sft", attempts=self.settings.attempts)

    def blind(self, seed: int) -> None:
        """The same model, data and steps, but what the terminal showed is hidden from the model, then and now."""
        self._begin(seed)
        with self._whole(self.folder / "blind.jsonl") as draft:
            if draft is not None:
                rows = [{"messages": hide(row["messages"])} for row in self._told()]
                draft.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        # As it is hidden, much is said alike; all of it stays, as it does for who sees.
        self._table("blind", [self.folder / "blind.jsonl"], "--duplicates")
        self._fit(seed, "blind", "blind")
        self._examine(seed, "blind", attempts=self.settings.blind_attempts)

    def rft(self, seed: int) -> None:
        """Rounds of practice in live sandboxes, each fine-tuned on the lessons and the sampled ids of what passed."""
        self._begin(seed)
        self._fit(seed, "sft", "lessons")
        settings, out = self.settings, self._place(seed, "rft")
        live = {"agent": "bash", "brief": True, "runtime": "namespace", "episodes": self._concurrency}
        asked = {
            "model": {"name": str(self._model(seed, "sft")), "dtype": "float32"},
            "manifest": str(self.folder / "tasks" / "practice.jsonl"),
            "out": str(out),
            "rounds": settings.practice_rounds,
            "attempts": settings.practice_attempts,
            "per_task": 1,  # a task that is solved every time is not to outweigh one that is solved once
            "lessons": str(self.folder / "tables" / "lessons"),
            "context_tokens": settings.context,
            "reply_tokens": _REPLY_TOKENS,
            "temperature": settings.temperature,
            "seed": seed,
            "live": live | {"starts": self._concurrency // 2 + 1, "max_steps": 12},
            "needs_gpu": False,
            "trainer": self._trainer(seed, settings.rft_steps, settings.rate * _GENTLY),
        }
        last = out / f"round-{settings.practice_rounds - 1}" / "sft" / "history.json"
        if not last.exists():
            try:
                self._train("rft", out, asked)
            except StageFailed:
                if not _passed_nothing(out / "rounds.json"):
                    raise
                self._say("nothing passed in practice: there is nothing that rft could learn from")
                return
        self._examine(seed, "rft", attempts=settings.attempts)

    def more(self, seed: int) -> None:
        """The control of `rft`: as many further steps, and no new data."""
        self._control(seed, "more", gently=_GENTLY)

    def faster(self, seed: int) -> None:
        """A second control: as `more`, at three times its rate, which on the split `val` suited the lessons better."""
        self._control(seed, "faster", gently=_FASTER)

    def sources(self, seed: int) -> None:
        """(c): learned from a teacher that errs, at each size as many rows chosen by the code, nobody, or a judge."""
        self._begin(seed)
        taught = self._manifest("noisy", lambda task: _number(task) < self.settings.noisy)
        run = self._teach("noisy", taught, errs=self.settings.errs)
        self._judge(run)
        for size in self.settings.sizes:
            for source in SOURCES:
                options = {
                    "verified": [],
                    "unverified": ["--status", "passed", "--status", "failed"],
                    "judged": ["--judged-by", "openai/judge"],
                }[source]
                name = f"{source}-{size}"
                self._table(name, [run], *options, "--per-domain", str(size))
                if (rows := rows_in(self.folder / "tables" / name)) != size * len(self.domains()):
                    raise StageFailed(
                        f"Of {run.name}, {source} gave {rows} rows and not {size} of each domain: raise `noisy`."
                    )
                self._fit(seed, name, name)
                self._examine(seed, name, attempts=self.settings.side_attempts)

    def left_out(self, seed: int) -> None:
        """(e): learned without the lessons of one domain, for each."""
        self._begin(seed)
        for domain in self.domains():
            name = f"without-{domain}"
            self._table(name, [run for run in self._teachers() if run.name != f"teacher-{domain}"])
            self._fit(seed, name, name)
            self._examine(seed, name, attempts=self.settings.side_attempts)

    # ── what stages are made of ─────────────────────────────────────────────────────────────────

    def _control(self, seed: int, name: str, *, gently: float) -> None:
        self._fit(seed, "sft", "lessons")
        steps = self.settings.rft_steps * self.settings.practice_rounds
        self._fit(seed, name, "lessons", start="sft", steps=steps, gently=gently)
        self._examine(seed, name, attempts=self.settings.control_attempts)

    def _teach(self, name: str, manifest: Path, *, errs: float = 0.0, seed: int = 0) -> Path:
        run = self.folder / name
        planned = len(read_manifest(manifest).refs)
        if _judged(run) != planned:
            self._check_time()
            # A share of episodes that holds for what is left of a run holds for all of it.
            with self._heard(Teacher(manifest, errs=errs, seed=seed), "teacher") as model:
                self._rollout(run, manifest, model, attempts=1)
        return run

    def _judge(self, run: Path) -> None:
        if (run / "judged").exists():
            return
        self._check_time()
        with self._heard(Judge(), "judge") as (_, env):
            self._tgym("judge", str(run), "--model", "openai/judge", env=env)
        (run / "judged").touch()

    def _examine(self, seed: int, name: str, *, attempts: int) -> None:
        """Roll a model out on the held-out tasks; a run that is whole is left as it is."""
        tasks = self.folder / "tasks" / "test" / "manifest.jsonl"
        run = self._place(seed, f"on-{name}")
        if _judged(run) == len(read_manifest(tasks).refs) * attempts:
            return
        self._check_time()
        checkpoint = self._model(seed, name)
        if name == "blind":
            with (
                contextlib.closing(BlindModel(checkpoint, seed=seed, threads=self._threads)) as speaker,
                self._heard(speaker, "blind") as model,
            ):
                self._rollout(run, tasks, model, attempts=attempts, seed=seed)
            return
        self._rollout(run, tasks, (f"local/{checkpoint}", {}), attempts=attempts, seed=seed)

    def _rollout(
        self,
        run: Path,
        manifest: Path,
        model: tuple[str, Mapping[str, str]],
        *,
        attempts: int,
        seed: int = 0,
    ) -> None:
        """Play what is left of a run.

        Raises:
            OutOfTime: It was interrupted, cleanly.
            StageFailed: Some attempts have no verdict.
        """
        planned = len(read_manifest(manifest).refs) * attempts
        name, env = model
        again = ["--resume", str(run), "--retry-broken"]
        fresh = [str(manifest), "--agent", "bash", "--agent-setting", "brief=true", "--out", str(run)]
        fresh += ["--model", name, "--attempts", str(attempts), "--max-steps", "12", "--seed", str(seed)]
        fresh += ["--model-setting", f"temperature={self.settings.temperature}"]
        fresh += ["--model-setting", f"max_tokens={_REPLY_TOKENS}"]
        half = str(self._concurrency // 2 + 1)
        self._say(f"{run.relative_to(self.folder)}: {planned} attempts")
        self._tgym(
            "rollout", *(again if (run / "run.json").exists() else fresh), "--runtime", "namespace",
            "--concurrency", str(self._concurrency), "--starts", half, "--verifications", half, env=env,
        )  # fmt: skip
        if (judged := _judged(run)) != planned:
            raise StageFailed(f"{run}: {planned - judged} of {planned} attempts have no verdict.")

    @contextlib.contextmanager
    def _heard(self, speaker: Speaker, name: str) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Serve a speaker; yields its name for `--model`, and the environment that says where it is."""
        with serving(speaker, name) as url:
            yield f"openai/{name}", {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}

    def _table(self, name: str, sources: Sequence[Path], *options: str) -> None:
        with self._whole(self.folder / "tables" / name) as draft:
            if draft is not None:
                self._tgym(
                    "train", "examples", *map(str, sources), "--out", str(draft), "--words", "text",
                    "--tokenizer", str(self.folder / "tokenizer"), "--max-tokens", str(self.settings.context),
                    *options,
                )  # fmt: skip

    def _fit(
        self,
        seed: int,
        name: str,
        table: str,
        *,
        start: str = "base",
        steps: int | None = None,
        gently: float = 1.0,
    ) -> None:
        out = self._place(seed, name)
        if (out / "history.json").exists():  # written last
            return
        asked = {
            "model": {"name": str(self._model(seed, start)), "dtype": "float32"},
            "table": str(self.folder / "tables" / table),
            "out": str(out),
            "context_tokens": self.settings.context,
            "needs_gpu": False,
            "trainer": self._trainer(seed, steps or self.settings.sft_steps, self.settings.rate * gently),
        }
        self._train("sft", out, asked)

    def _trainer(self, seed: int, steps: int, rate: float) -> dict[str, Any]:
        """Return fields of trl.SFTConfig: the model is small and begins with random weights, hence the rate."""
        return {
            "max_steps": steps,
            "per_device_train_batch_size": 16,
            "learning_rate": rate,
            # Copying from what was shown is learned suddenly, and late: until then the rate must not fall.
            "lr_scheduler_type": "warmup_stable_decay",
            "lr_scheduler_kwargs": {"num_decay_steps": max(1, steps * 2 // 5)},
            "warmup_steps": max(1, steps // 20),
            "adam_beta2": 0.98,
            "weight_decay": 0.01,
            "logging_steps": max(1, steps // 40),
            "save_steps": max(1, steps // 5),  # what is cut off goes on from there
            "save_total_limit": 1,
            "gradient_checkpointing": False,
            "seed": seed,
        }

    def _train(self, kind: str, out: Path, asked: Mapping[str, Any]) -> None:
        self._check_time()
        file = out.with_name(f"{out.name}.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(dict(asked), sort_keys=False), "utf-8")
        again = ["--resume"] if (out / "settings.yaml").exists() else []
        self._say(f"{out.relative_to(self.folder)}: tgym train {kind}")
        began = time.monotonic()
        self._tgym("train", kind, "--config", str(file), *again)
        self._say(f"{out.relative_to(self.folder)}: {time.monotonic() - began:.0f} s")

    def _begin(self, seed: int) -> None:
        """Make the untrained model."""
        with self._whole(self._place(seed, "base")) as draft:
            if draft is not None:
                from transformers import AutoTokenizer

                how = self.settings
                tokenizer = AutoTokenizer.from_pretrained(str(self.folder / "tokenizer"))
                made = make_model(
                    tokenizer, context=how.context, seed=seed, width=how.width, layers=how.layers
                )
                made.save_pretrained(draft)
                tokenizer.save_pretrained(draft)

    def _model(self, seed: int, name: str) -> Path:
        """Return the checkpoint of that name."""
        place = self._place(seed, name)
        if name == "rft":
            return place / f"round-{self.settings.practice_rounds - 1}" / "sft" / "model"
        return place if name == "base" else place / "model"

    def _told(self) -> Iterator[dict[str, Any]]:
        """Yield the teacher's verified conversations."""
        for run in self._teachers():
            out = self.folder / "told" / run.name
            with self._whole(out) as draft:
                if draft is not None:
                    self._tgym("export", str(run), "--format", "messages", "--lines", "--out", str(draft))
            for line in (out / "train.jsonl").read_text("utf-8").splitlines():
                yield json.loads(line)

    def _teachers(self) -> list[Path]:
        return [self.folder / f"teacher-{domain}" for domain in self.domains()]

    def _train_tasks(self) -> list[str]:
        return [Path(ref).name for ref in read_manifest(self.folder / "tasks/train/manifest.jsonl").refs]

    def _domain(self, task: str) -> str:
        if not self._domain_of:
            lines = (self.folder / "tasks" / "train" / "index.jsonl").read_text("utf-8").splitlines()
            self._domain_of = {row["id"]: row["domain"] for row in map(json.loads, lines)}
        return self._domain_of[task]

    def _manifest(self, name: str, holds: Callable[[str], bool]) -> Path:
        """Write a manifest of the training tasks that `holds` is true of."""
        file = self.folder / "tasks" / f"{name}.jsonl"
        kept = [task for task in self._train_tasks() if holds(task)]
        file.write_text("".join(json.dumps({"path": f"train/{task}"}) + "\n" for task in kept), "utf-8")
        return file

    def _place(self, seed: int, name: str) -> Path:
        return self.folder / f"seed-{seed}" / name

    @contextlib.contextmanager
    def _whole(self, out: Path) -> Iterator[Path | None]:
        """Yield where to write what becomes `out` if the block succeeds; None where it is there."""
        if out.exists():
            yield None
            return
        draft = out.with_name(f".{out.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.rename(out)

    def _check_time(self) -> None:
        if time.monotonic() >= self._ends_by:
            raise OutOfTime("The time is over. The same command goes on from here.")

    def _tgym(self, *args: str, env: Mapping[str, str] | None = None) -> None:
        """Run a command; at the end of the time it is interrupted, as Ctrl-C would."""
        code = (  # a shell has what it starts in the background ignore SIGINT, and so would all that is started there
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from terminal_gym.cli import main; main(sys.argv[1:])"
        )
        threads = {"OMP_NUM_THREADS": str(self._threads), "HF_HUB_OFFLINE": "1"}
        with (self.folder / "log.txt").open("ab") as log:
            command = [sys.executable, "-c", code, *args]
            is_cut_short = False
            running = subprocess.Popen(
                command, env=os.environ | threads | dict(env or {}), stdout=log, stderr=log
            )
            try:
                left = self._ends_by - time.monotonic()
                code_ = running.wait(None if left == float("inf") else max(1.0, left))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                is_cut_short = True
                running.send_signal(signal.SIGINT)
                code_ = running.wait()
        if code_ != 0 and (is_cut_short or code_ == 130):
            raise OutOfTime("The time is over. The same command goes on from here.")
        if code_ not in (0, 3):  # 3: some attempts are broken, which the caller counts
            raise StageFailed(f"tgym {' '.join(args)} ended with {code_}; see {self.folder / 'log.txt'}.")


def _number(task: str) -> int:
    return int(task.rpartition("-")[2])


def _passed_nothing(rounds: Path) -> bool:
    """Say whether the last round of practice ended with nothing to learn from."""
    told = json.loads(rounds.read_text("utf-8")) if rounds.exists() else []
    return bool(told) and told[-1]["judged"] > 0 and told[-1]["passed"] == 0


def _judged(run: Path) -> int:
    if not (run / "run.json").exists():
        return 0
    return sum(row.status != "broken" for row in Run(run).standing.values())
