"""Run folders → a training table: chosen, de-duplicated, decontaminated, capped, split by repository, cut to length.

Attempts are gone through in an order that a seed gives, so that a cap does not favour what ended first, and each one
that does not enter is counted with its reason. Released rows come after, in the order of their file. Trajectories are
read one at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from terminal_gym.errors import BadSetting, SchemaMismatch, StoreError
from terminal_gym.export.released import from_row, read_rows
from terminal_gym.export.select import Gate, choose
from terminal_gym.tasks.overlap import Benchmark
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import Row, Run
from training import chat_format, summary
from training.chat_format import Tokens
from training.labels import Labels, labels_of
from training.table import Example, Facts, Writer, check_fits, fingerprint, write_facts
from training.table import read_rows as table_rows

RELEASED = "released"  # status of rows that come without a verdict of ours
Words = Literal["auto", "sampled", "text"]


@dataclass(frozen=True)
class Choice:
    """What enters, and in which form."""

    max_tokens: int = 32_768
    """Of one row; a longer one keeps the task and as many of the last turns as there is room for."""
    words: Words = "auto"
    """"sampled": the ids that the policy sampled; "text": tokenised anew; "auto": sampled where they fit."""
    template: str = "auto"
    """Of the chat; see `chat_format.matching`."""
    per_task: int | None = None
    """At most so many attempts at one task."""
    per_domain: int | None = None
    """At most so many attempts of one domain."""
    eval_share: float = 0.0
    """Of the repositories, whose tasks are held out for the eval split."""
    malformed: bool = False
    """Learn also from replies that the agent could not read."""
    duplicates: bool = False
    """Keep attempts at one task that say the same as another."""
    seed: int = 0
    """Of the order in which attempts are gone through, and of the split."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or any(
            cap is not None and cap < 1 for cap in (self.per_task, self.per_domain)
        ):
            raise BadSetting("max_tokens and caps must be 1 or more.")
        if not 0.0 <= self.eval_share < 1.0:
            raise BadSetting(f"eval_share is {self.eval_share}; it must be at least 0 and below 1.")
        if self.words not in ("auto", "sampled", "text"):
            raise BadSetting(f"words is {self.words!r}; it must be 'auto', 'sampled' or 'text'.")


@dataclass(frozen=True)
class Attempt:
    """One attempt at a task, before it is read."""

    labels: Labels
    status: str
    task: str
    number: int
    run: Run | None  # None: a released row
    row: Row | None
    played: Trajectory | None  # of a released row

    def read(self) -> Trajectory:
        """Return the trajectory; raises as `Run.read` does."""
        if self.played is not None:
            return self.played
        assert self.run is not None
        assert self.row is not None
        return self.run.read(self.row)


@dataclass
class Made:
    """A table, and what became of the attempts."""

    folder: Path
    facts: Facts
    examples: list[dict[str, Any]] = field(default_factory=list)  # facts of each row, without its tokens


def make_table(
    sources: Sequence[Path],
    folder: Path,
    tokenizer: Any,
    *,
    tokenizer_name: str,
    choice: Choice | None = None,
    gate: Gate | None = None,
    benchmark: Benchmark | None = None,
    labels: Mapping[str, Labels] | None = None,
    beside: Path | None = None,
) -> Made:
    """Write the table of `sources` into a new folder; it appears whole, or not at all.

    Args:
        sources: Run folders, and Parquet or JSON-lines files of released TerminalTraj rows.
        folder: A new one.
        tokenizer: Of the model that is to learn.
        tokenizer_name: Its name or folder, for the record.
        choice: What enters, and in which form.
        gate: What is asked of an attempt of a run; None: a verdict that it passed.
        benchmark: Texts that must not be learned.
        labels: Domain and repository by task, before those of the tasks.
        beside: A table whose rows enter as they are, after those of `sources`.

    Raises:
        BadSetting: The folder exists; the tokenizer would mis-mask; nothing of `sources` enters; or `beside` is of
            another tokenizer, template or length. Nothing was left behind.
        SchemaMismatch: A source cannot be read.
        StoreError: It cannot be written. Nothing was left behind.
    """
    if folder.exists():
        raise BadSetting(f"{folder} exists. Name a new folder.")
    choice, gate = choice or Choice(), gate or Gate()
    template = chat_format.matching(tokenizer, name=choice.template)
    if beside is not None:
        check_fits(beside, tokenizer, model=tokenizer_name, template=template, max_tokens=choice.max_tokens)
    dropped = Counter[str]()
    attempts = _attempts(sources, gate, labels or {}, dropped, seed=choice.seed)
    sift = _Sift(choice, benchmark, dropped)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        writers = {split: Writer(draft / f"{split}.parquet") for split in ("train", "eval")}
        told: list[dict[str, Any]] = []
        with contextlib.ExitStack() as stack:
            for writer in writers.values():
                stack.callback(writer.close)
            for attempt in attempts:
                for example in sift.examples(attempt, tokenizer, chat_format.SYSTEMS[template]):
                    split, cells = _split(example.repository, choice), example.cells()
                    writers[split].add(cells)
                    told.append(_told(cells, split))
            _check_any(writers, sources, dropped)
            if beside is not None:
                for split, writer in writers.items():
                    for cells in table_rows(beside, split):
                        writer.add(cells)
                        told.append(_told(cells, split))
        facts = Facts(
            tokenizer=tokenizer_name,
            fingerprint=fingerprint(tokenizer),
            template=template,
            max_tokens=choice.max_tokens,
            sources=tuple(map(str, sources if beside is None else (*sources, beside))),
            settings=asdict(choice)
            | {"gate": asdict(replace(gate, liked=None)) | {"judged_by_model": gate.liked is not None}},
            rows={split: writer.rows for split, writer in writers.items()},
            tokens={split: writer.tokens for split, writer in writers.items()},
            learned={split: writer.learned for split, writer in writers.items()},
            dropped=dict(dropped),
        )
        write_facts(draft, facts)
        made = Made(folder, facts, told)
        (draft / "README.md").write_text(summary.card(facts, told), "utf-8")
        draft.replace(folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return made


class _Sift:
    """Decides about one attempt after the other, and remembers what entered."""

    def __init__(self, choice: Choice, benchmark: Benchmark | None, dropped: Counter[str]):
        self._choice, self._benchmark, self._dropped = choice, benchmark, dropped
        self._by_task, self._by_domain = Counter[str](), Counter[str]()
        self._said: set[bytes] = set()

    def examples(self, attempt: Attempt, tokenizer: Any, system: str) -> Iterator[Example]:
        """Yield the rows of an attempt, none where it does not enter."""
        why = self._full(attempt)
        if not why:
            played = attempt.read()
            why = self._why_not(played)
        if why:
            self._dropped[why] += 1
            return
        made, why = self._rows(attempt, played, tokenizer, system)
        if why:
            self._dropped[why] += 1
        if made:
            self._by_task[attempt.task] += 1
            self._by_domain[attempt.labels.domain] += 1
            yield from made

    def _full(self, attempt: Attempt) -> str:
        choice, domain = self._choice, attempt.labels.domain
        if choice.per_task is not None and self._by_task[attempt.task] >= choice.per_task:
            return f"more than {choice.per_task} of one task"
        if choice.per_domain is not None and self._by_domain[domain] >= choice.per_domain:
            return f"more than {choice.per_domain} of the domain {domain}"
        return ""

    def _why_not(self, played: Trajectory) -> str:
        if not played.turns:
            return "no model spoke"
        replies = [turn.reply.content for turn in played.turns]
        if self._benchmark is not None and (
            shared := self._benchmark.shared_with(played.instruction, *replies)
        ):
            return f"shares text with {shared}"
        said = hashlib.sha256("\0".join([played.task, *replies]).encode("utf-8", "replace")).digest()
        if not self._choice.duplicates and said in self._said:
            return "says the same as another attempt at its task"
        self._said.add(said)
        return ""

    def _rows(
        self, attempt: Attempt, played: Trajectory, tokenizer: Any, system: str
    ) -> tuple[list[Example], str]:
        """(rows, why there are not more)"""
        choice, why = self._choice, ""
        try:
            source, contexts = self._contexts(played, tokenizer, system)
        except BadSetting as error:
            return [], str(error).partition(": ")[0] if choice.words == "sampled" else str(error)
        end_id = tokenizer(chat_format.END, add_special_tokens=False)["input_ids"][0]
        made: list[Example] = []
        for tokens in contexts:
            cut = chat_format.shortened(tokens, choice.max_tokens, end_id=end_id)
            if cut is None:
                why = f"task and last turn alone are longer than {choice.max_tokens} tokens"
            elif not cut.spoken.any():
                why = "no token is learned"
            else:
                made.append(_example(attempt, played, cut, source, shortened=cut is not tokens))
        return made, why

    def _contexts(self, played: Trajectory, tokenizer: Any, system: str) -> tuple[str, list[Tokens]]:
        words, malformed = self._choice.words, self._choice.malformed
        fits = words != "text" and chat_format.is_of(played, tokenizer)
        if words == "sampled" and not fits:
            raise BadSetting("no token ids of this tokenizer")
        if fits and all(turn.output_ids for turn in played.turns):
            return "sampled", list(chat_format.sampled(played, malformed=malformed))
        return "text", list(chat_format.from_text(played, tokenizer, system=system, malformed=malformed))


def _attempts(
    sources: Sequence[Path], gate: Gate, given: Mapping[str, Labels], dropped: Counter[str], *, seed: int
) -> Iterator[Attempt]:
    """Return the attempts that pass the gate, then the released rows; the solve rate of a task counts all runs."""
    owners: dict[str, tuple[Run, Mapping[str, Labels]]] = {}
    rows: list[Row] = []
    files = [source for source in sources if source.is_file()]
    for source in sources:
        if source in files:
            continue
        run = Run(source)
        labels = labels_of(run.settings.get("tasks", {}), given)
        for row in run.standing.values():
            owners[row.sha256] = run, labels
            rows.append(row)
    chosen = choose(rows, gate)
    dropped.update(chosen.dropped)
    found: list[Attempt] = []
    for row in chosen.rows:
        run, known = owners[row.sha256]
        own = known.get(row.task, Labels())
        found.append(Attempt(own, row.status, row.task, row.attempt, run, row, None))
    found.sort(key=lambda one: _order(one, seed))
    return itertools.chain(found, *(_released(source, given) for source in files))


def _released(source: Path, given: Mapping[str, Labels]) -> Iterator[Attempt]:
    for number, cells in enumerate(read_rows(source)):
        try:
            played = from_row(cells, number=number)
        except SchemaMismatch as error:
            raise SchemaMismatch(f"{source}, {error}") from error
        labels = given.get(played.task, Labels())
        yield Attempt(labels, RELEASED, played.task, number, None, None, played)


def _order(attempt: Attempt, seed: int) -> tuple[bytes, str]:
    digest = hashlib.sha256(f"{seed} {attempt.task} {attempt.number}".encode()).digest()
    return digest, "" if attempt.row is None else attempt.row.sha256


def _split(repository: str, choice: Choice) -> str:
    """Return "eval" for a share of the repositories; each is wholly on one side."""
    digest = hashlib.sha256(f"{choice.seed} {repository}".encode()).digest()
    return "eval" if int.from_bytes(digest[:8], "big") < choice.eval_share * 2**64 else "train"


def _example(
    attempt: Attempt, played: Trajectory, tokens: Tokens, source: str, *, shortened: bool
) -> Example:
    return Example(
        tokens=tokens,
        task=attempt.task,
        attempt=attempt.number,
        status=attempt.status,
        source=source,
        domain=attempt.labels.domain,
        repository=attempt.labels.repository or attempt.task,
        model=played.model,
        reward=played.outcome.reward,
        turns=len(chat_format.spans(tokens)[0]),
        shortened=shortened,
    )


def _told(cells: Mapping[str, Any], split: str) -> dict[str, Any]:
    names = ("task", "domain", "repository", "source", "turns", "learned", "shortened")
    return {name: cells[name] for name in names} | {"split": split, "tokens": len(cells["input_ids"])}


def _check_any(writers: Mapping[str, Writer], sources: Sequence[Path], dropped: Counter[str]) -> None:
    if writers["train"].rows:
        return
    where = ", ".join(map(str, sources))
    if writers["eval"].rows:
        raise BadSetting(
            f"All of {where} fell into the eval split. Lower eval_share, or choose another seed."
        )
    why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "there are no attempts"
    raise BadSetting(f"Nothing of {where} enters the table: {why}.")
