"""The closed loop, stage by stage: tasks → teacher → SFT → rollouts → RFT → rollouts, and a blind student beside it.

Everything between the stages is files, and all that touches tasks or sandboxes is a `tgym` command. A stage that is
whole is not run again, so the experiment goes on where it was stopped:

    OUT/settings.json                what was asked for; going on with other settings is refused
    OUT/tasks/{train,test}/          tgym registry generate
    OUT/teacher/, OUT/lessons/       tgym rollout, tgym export: what the teacher did and the validators passed
    OUT/seed-S/<model>/              a checkpoint: base, sft, blind, rft, and more (sft again, without new data)
    OUT/seed-S/on-<model>/           tgym rollout of it on the held-out tasks
    OUT/seed-S/practice/, earned/    tgym rollout of sft on training tasks; what passed, as the ids that were sampled
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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.learning.fit import Plan, examples, fit, read_rows
from benchmarks.learning.server import Speaker, serving
from benchmarks.learning.student import Student
from benchmarks.learning.teacher import Teacher
from benchmarks.learning.tiny import load_tokenizer, make_model, make_tokenizer
from terminal_gym.errors import BadSetting, TerminalGymError
from terminal_gym.tasks.manifest import read_manifest
from terminal_gym.trajectory.store import Run

_GENTLY = 0.1  # of the rates, where a student that has learned goes on: at full rate it forgets first
_REPLY_TOKENS = 40  # of the student, at most; the longest command of the teacher has about 30


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
    practice_attempts: int = 4
    sft_steps: int = 250
    rft_steps: int = 150
    context: int = 768  # tokens
    temperature: float = 1.0


class OutOfTime(TerminalGymError):
    """The time given is over; the same command goes on."""


class StageFailed(TerminalGymError, RuntimeError):
    """A command of a stage ended with an error."""


class Experiment:
    """One experiment in one folder.

    Args:
        folder: Made, or gone on with.
        settings: How large.
        ends_by: When to stop, as `time.monotonic` counts; rollouts stop within, fits before they begin.
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
        say: Callable[[str], None] = lambda text: None,
    ):
        self.folder, self.settings = folder.absolute(), settings
        self._ends_by, self._concurrency, self._say = ends_by, concurrency, say
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
        """Tasks, the teacher's trajectories, and the tokenizer."""
        kinds = [word for family in self.settings.families for word in ("--family", family)]
        counts = {"train": self.settings.lessons + self.settings.practice, "test": self.settings.test}
        for split, count in counts.items():
            with self._whole(self.folder / "tasks" / split) as draft:
                if draft is not None:
                    self._tgym(
                        "registry",
                        "generate",
                        *kinds,
                        "--count",
                        str(count),
                        "--split",
                        split,
                        "--out",
                        str(draft),
                    )
        taught = self._manifest("taught", lambda number: number < self.settings.lessons)
        self._manifest("practice", lambda number: number >= self.settings.lessons)
        self.rollout(self.folder / "teacher", taught, lambda: Teacher(taught), name="teacher", attempts=1)
        self.export(self.folder / "teacher", self.folder / "lessons", "messages")
        with self._whole(self.folder / "tokenizer") as draft:
            if draft is not None:
                make_tokenizer([m["content"] for row in self._lessons() for m in row["messages"]], draft)

    # ── one seed ────────────────────────────────────────────────────────────────────────────────

    def base(self, seed: int) -> None:
        """The untrained model, on the held-out tasks."""
        self._begin(seed)
        self._examine(seed, "base", attempts=self.settings.base_attempts)

    def sft(self, seed: int) -> None:
        """Supervised on what the validators passed of the teacher's trajectories."""
        self._begin(seed)
        self._fit(seed, "base", "sft", self._lessons(), steps=self.settings.sft_steps)
        self._examine(seed, "sft", attempts=self.settings.attempts)

    def blind(self, seed: int) -> None:
        """The same model, data and steps, but what the terminal showed is hidden from the model, then and now."""
        self._begin(seed)
        self._fit(seed, "base", "blind", self._lessons(), steps=self.settings.sft_steps, blind=True)
        self._examine(seed, "blind", attempts=self.settings.blind_attempts, blind=True)

    def rft(self, seed: int) -> None:
        """Practice in live sandboxes; then fine-tuned on the sampled ids of what passed."""
        tasks, practice = self.folder / "tasks" / "practice.jsonl", self._place(seed, "practice")
        student = self._speaker(seed, "sft", salt=1)
        self.rollout(practice, tasks, student, name="sft", attempts=self.settings.practice_attempts)
        earned: list[dict[str, Any]] = []
        if any(row.status == "passed" for row in Run(practice).standing.values()):
            self.export(practice, self._place(seed, "earned"), "tokens")
            earned = read_rows(self._place(seed, "earned") / "train.jsonl")
        elif not self._place(seed, "rft").exists():
            self._say("nothing passed in practice: rft learns from the lessons alone")
        self._fit(seed, "sft", "rft", [*self._lessons(), *earned], steps=self.settings.rft_steps)
        self._examine(seed, "rft", attempts=self.settings.attempts)

    def more(self, seed: int) -> None:
        """The control of `rft`: as many further steps, and no new data."""
        self._fit(seed, "sft", "more", self._lessons(), steps=self.settings.rft_steps)
        self._examine(seed, "more", attempts=self.settings.attempts)

    # ── what stages are made of ─────────────────────────────────────────────────────────────────

    def rollout(
        self, run: Path, manifest: Path, speaker: Callable[[], Speaker], *, name: str, attempts: int
    ) -> None:
        """Roll `speaker` out on a manifest; a run that is whole is left as it is.

        Raises:
            OutOfTime: It was interrupted, cleanly.
            StageFailed: Some attempts have no verdict.
        """
        planned = len(read_manifest(manifest).refs) * attempts
        if run.exists() and _judged(run) == planned:
            return
        self._check_time()
        again = ["--resume", str(run), "--retry-broken"]
        fresh = [str(manifest), "--agent", "bash", "--agent-setting", "brief=true", "--out", str(run)]
        fresh += ["--model", f"openai/{name}", "--attempts", str(attempts), "--max-steps", "24"]
        fresh += ["--model-setting", f"temperature={self.settings.temperature}"]
        fresh += ["--model-setting", f"max_tokens={_REPLY_TOKENS}", "--model-setting", "timeout_s=120.0"]
        self._say(f"{run.relative_to(self.folder)}: {planned} attempts")
        spoken_by = speaker()
        try:
            with serving(spoken_by, name) as url:
                half = str(self._concurrency // 2 + 1)
                self._tgym(
                    "rollout", *(again if (run / "run.json").exists() else fresh), "--runtime", "namespace",
                    "--concurrency", str(self._concurrency), "--starts", half, "--verifications", half,
                    env={"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"},
                )  # fmt: skip
        finally:
            if isinstance(spoken_by, Student):
                spoken_by.close()
        if (judged := _judged(run)) != planned:
            raise StageFailed(f"{run}: {planned - judged} of {planned} attempts have no verdict.")

    def export(self, run: Path, out: Path, format: str) -> None:
        """Export what passed in a run, as JSON lines."""
        with self._whole(out) as draft:
            if draft is not None:
                self._tgym("export", str(run), "--format", format, "--lines", "--out", str(draft))

    def _lessons(self) -> list[dict[str, Any]]:
        return read_rows(self.folder / "lessons" / "train.jsonl")

    def _fit(
        self, seed: int, start: str, name: str, rows: list[dict[str, Any]], *, steps: int, blind: bool = False
    ) -> None:
        out = self._place(seed, name)
        if out.exists():
            return
        self._check_time()
        tokenizer = load_tokenizer(self.folder / "tokenizer")
        self._say(f"{out.relative_to(self.folder)}: {steps} steps on {len(rows)} conversations")
        learned = examples(rows, tokenizer, blind=blind)
        gently = 1.0 if start == "base" else _GENTLY
        plan = Plan(steps=steps, seed=seed, matrix_rate=0.02 * gently, rate=3e-3 * gently)
        fit(self._place(seed, start), learned, out, plan, say=self._say)

    def _examine(self, seed: int, name: str, *, attempts: int, blind: bool = False) -> None:
        """Roll a checkpoint out on the held-out tasks."""
        tasks = self.folder / "tasks" / "test" / "manifest.jsonl"
        speaker = self._speaker(seed, name, blind=blind)
        self.rollout(self._place(seed, f"on-{name}"), tasks, speaker, name=name, attempts=attempts)

    def _speaker(self, seed: int, name: str, *, blind: bool = False, salt: int = 0) -> Callable[[], Speaker]:
        return lambda: Student(self._place(seed, name), blind=blind, seed=1000 * seed + salt)

    def _begin(self, seed: int) -> None:
        """Make the untrained model."""
        with self._whole(self._place(seed, "base")) as draft:
            if draft is not None:
                tokenizer = load_tokenizer(self.folder / "tokenizer")
                make_model(tokenizer, context=self.settings.context, seed=seed).save_pretrained(draft)
                tokenizer.save_pretrained(draft)

    def _manifest(self, name: str, holds: Callable[[int], bool]) -> Path:
        """Write a manifest of the training tasks for whose number within their family `holds`."""
        file, train = self.folder / "tasks" / f"{name}.jsonl", self.folder / "tasks" / "train"
        names = [Path(ref).name for ref in read_manifest(train / "manifest.jsonl").refs]
        kept = [name for name in names if holds(int(name.rpartition("-")[2]))]
        file.write_text("".join(json.dumps({"path": f"train/{name}"}) + "\n" for name in kept), "utf-8")
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

    def _tgym(self, *args: str, env: dict[str, str] | None = None) -> None:
        """Run a command; at the end of the time it is interrupted, as Ctrl-C would."""
        code = "import sys; from terminal_gym.cli import main; main(sys.argv[1:])"
        with (self.folder / "log.txt").open("ab") as log:
            command = [sys.executable, "-c", code, *args]
            is_cut_short = False
            running = subprocess.Popen(command, env=os.environ | (env or {}), stdout=log, stderr=log)
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


def _judged(run: Path) -> int:
    if not (run / "run.json").exists():
        return 0
    return sum(row.status != "broken" for row in Run(run).standing.values())
