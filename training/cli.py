"""`tgym train …`: what is learned from run folders. Runs from an editable checkout with the extra `[train]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from terminal_gym.cli.report import say, show, show_json, show_table
from terminal_gym.errors import BadSetting

app = typer.Typer(
    name="train", help="Examples, fine-tuning, and learning on live terminals.", no_args_is_help=True
)


def _sft() -> Any:
    from training.sft import Sft

    return Sft


def _grpo() -> Any:
    from training.grpo import Grpo

    return Grpo


def _rft() -> Any:
    from training.rft import Rft

    return Rft


KINDS = {"sft": _sft, "rft": _rft, "grpo": _grpo}  # settings of each command, imported only when asked for


@app.callback()
def train() -> None:
    """Examples, fine-tuning, and learning on live terminals."""


@app.command()
def examples(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="RUN…", help="Run folders, or .parquet or .jsonl files of released rows."),
    ],
    out: Annotated[Path, typer.Option(help="The table, a new folder.")],
    tokenizer: Annotated[str, typer.Option(help="Name or folder of the model that is to learn.")],
    max_tokens: Annotated[
        int, typer.Option(help="Of one row; longer ones keep the task and the tail.")
    ] = 32_768,
    words: Annotated[
        str, typer.Option(help="sampled: the policy's own token ids; text: tokenised anew; auto: either.")
    ] = "auto",
    template: Annotated[
        str, typer.Option(help="chatml, qwen2.5, or auto: whichever the tokenizer has.")
    ] = "auto",
    status: Annotated[
        list[str] | None, typer.Option(help="passed (the default), failed; may be given more than once.")
    ] = None,
    judged_by: Annotated[
        str, typer.Option(help="A model of `tgym judge`: it chooses, and not the code.")
    ] = "",
    band: Annotated[
        list[str] | None,
        typer.Option(help="Solve-rate band of the task: never, rarely, sometimes, often, always."),
    ] = None,
    per_task: Annotated[int | None, typer.Option(help="At most so many attempts of one task.")] = None,
    per_domain: Annotated[int | None, typer.Option(help="At most so many attempts of one domain.")] = None,
    most_turns: Annotated[int | None, typer.Option(help="Leave longer attempts out.")] = None,
    cut_short: Annotated[bool, typer.Option(help="Let in what a limit ended.")] = True,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Keep attempts that say the same as another.")
    ] = False,
    malformed: Annotated[
        bool, typer.Option("--malformed", help="Learn also from replies that could not be read.")
    ] = False,
    eval_share: Annotated[
        float, typer.Option(help="Of the repositories, held out for the eval split.")
    ] = 0.0,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="A benchmark's tasks (folder or manifest) that nothing may share 13 words with."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="JSON lines of task, domain, repository, where the tasks do not say.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the summary into this file.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order, and of the split.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")] = False,
) -> None:
    """Make a training table: token ids, and which of them the policy said."""
    from terminal_gym.export.select import Gate
    from terminal_gym.tasks.overlap import open_benchmarks
    from training import summary
    from training.examples import Choice, make_table
    from training.labels import read_labels
    from training.tokenizers import open_tokenizer

    statuses = tuple(status or (("passed", "failed") if judged_by else ("passed",)))
    if unknown := set(statuses) - {"passed", "failed"}:
        raise BadSetting(f"status is {sorted(unknown)[0]!r}; it must be 'passed' or 'failed'.")
    gate = Gate(
        statuses,  # type: ignore[arg-type]  # checked above
        most_turns=most_turns,
        bands=tuple(band or ()),
        cut_short=cut_short,
        liked=_liked(sources, judged_by) if judged_by else None,
    )
    choice = Choice(
        max_tokens=max_tokens,
        words=words,  # type: ignore[arg-type]  # checked there
        template=template,
        per_task=per_task,
        per_domain=per_domain,
        eval_share=eval_share,
        malformed=malformed,
        duplicates=duplicates,
        seed=seed,
    )
    if plot is not None:
        summary.check_plot(plot)
    made = make_table(
        sources,
        out,
        open_tokenizer(tokenizer),
        tokenizer_name=tokenizer,
        choice=choice,
        gate=gate,
        benchmark=open_benchmarks(against) if against else None,
        labels=read_labels(labels) if labels else None,
    )
    if plot is not None:
        summary.draw(made.examples, made.facts, plot)
    if json:
        show_json({"table": str(out), "rows": made.facts.rows, "tokens": made.facts.tokens,
                   "learned": made.facts.learned, "dropped": made.facts.dropped})  # fmt: skip
        return
    show_table(str(out), list(summary.HEADINGS), summary.by_domain(made.examples))
    for why, count in made.facts.dropped.items():
        say(f"left out: {count} {why}")
    show(f"{out}: {made.facts.rows['train']} rows to learn from, {made.facts.rows['eval']} held out")


def _liked(sources: list[Path], model: str) -> frozenset[str]:
    from terminal_gym.rollout.judge import judgements

    return frozenset(
        one.sha256
        for run in sources
        if run.is_dir()
        for one in judgements(run, model=model).values()
        if one.solved
    )


Config = Annotated[Path, typer.Option(help="A YAML file; see training/configs.")]
Changed = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Another value for a setting, e.g. trainer.max_steps=10."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder.")]
CheckOnly = Annotated[bool, typer.Option("--check", help="Check everything, begin nothing.")]


@app.command()
def sft(
    config: Config,
    changed: Changed = None,
    resume: Resume = False,
    check: CheckOnly = False,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")] = False,
) -> None:
    """Fine-tune a model on a training table."""
    from training import sft as tuning
    from training.folder import is_first_process
    from training.settings import read_config

    settings = read_config(tuning.Sft, config, overrides(changed))
    ready = tuning.prepare(settings, where=str(config))
    if check:
        _check_folder(settings, resume=resume)
        show(f"{config}: everything fits; {ready.facts.rows['train']} rows")
        return
    told = tuning.train(ready, resume=resume, say=say)
    if not is_first_process():
        return  # one of them says it
    if json:
        show_json(told)
    else:
        show(f"{told['model']}: {told['steps']} steps, loss {told['first_loss']} to {told['last_loss']}")


def _check_folder(settings: Any, *, resume: bool) -> None:
    from training.folder import check_folder
    from training.settings import plain

    check_folder(Path(settings.out), plain(settings), resume=resume)


@app.command()
def grpo(
    config: Config,
    changed: Changed = None,
    resume: Resume = False,
    check: CheckOnly = False,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")] = False,
) -> None:
    """Let a model learn on live terminals: groups of attempts at tasks, rewarded by their verdicts."""
    from training import grpo as learning
    from training.folder import is_first_process
    from training.settings import read_config

    settings = read_config(learning.Grpo, config, overrides(changed))
    ready = learning.prepare(settings, where=str(config))
    if check:
        _check_folder(settings, resume=resume)
        show(f"{config}: everything fits; {len(ready.curriculum.tasks)} tasks")
        return
    told = learning.train(ready, resume=resume, say=say)
    if not is_first_process():
        return  # one of them says it
    if json:
        show_json(told)
    else:
        show(
            f"{told['model']}: {told['steps']} steps, reward {told['first_reward']} to {told['last_reward']}"
        )


@app.command()
def rft(
    config: Config,
    changed: Changed = None,
    resume: Resume = False,
    check: CheckOnly = False,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")] = False,
) -> None:
    """Roll out, keep what passed, fine-tune on the sampled ids; so many rounds."""
    from training import rft as rounds
    from training.settings import read_config

    settings = read_config(rounds.Rft, config, overrides(changed))
    rounds.prepare(settings, where=str(config))
    if check:
        _check_folder(settings, resume=resume)
        show(f"{config}: everything fits")
        return
    told = rounds.train(settings, resume=resume, say=say)
    if json:
        show_json(told)
        return
    for one in told["rounds"]:
        show(f"round {one['round']}: {one['passed']} of {one['judged']} passed")
    show(str(told["model"]))


@app.command()
def scorer(
    work: Annotated[
        Path, typer.Argument(metavar="WORK", help="The working folder of a pipeline that has built.")
    ],
    out: Annotated[Path, typer.Option(help="The scorer, a new file (linear) or folder (transformer).")],
    kind: Annotated[str, typer.Option(help="linear, or transformer.")] = "linear",
    base: Annotated[str, typer.Option(help="The model that a transformer begins with.")] = "",
    folds: Annotated[
        int, typer.Option(min=2, help="Of the cross-validation; a transformer holds one out.")
    ] = 5,
    epochs: Annotated[float, typer.Option(help="Of a transformer's training.")] = 1.0,
    learning_rate: Annotated[float, typer.Option(help="Of a transformer's training.")] = 2e-5,
    tokens: Annotated[int, typer.Option(help="Of one file, for a transformer.")] = 1024,
    plot: Annotated[Path | None, typer.Option(help="Draw calibration and yield into this file.")] = None,
    seed: Annotated[int, typer.Option(help="Of the folds, the bootstrap and the training.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")] = False,
) -> None:
    """Fit the pipeline's quality model from its own builds: do repositories with such files build?"""
    from training import scorer as quality
    from training import scorer_metrics

    told = quality.train(
        work, out, kind=kind, base=base, folds=folds, epochs=epochs, learning_rate=learning_rate, tokens=tokens,
        seed=seed,
    )  # fmt: skip
    if plot is not None:
        scorer_metrics.draw(told, plot)
    if json:
        show_json(told)
        return
    low, high = told["auc_95"]
    show(
        f"{out}: AUC {told['auc']:.3f} ({low:.3f} to {high:.3f}), {told['built']} built, {told['failed']} did not"
    )
    for name, what in (("acceptance", "instances accepted"), ("rated", "instances' ratings")):
        if told[name] and told[name]["spearman"] is not None:
            low, high = told[name]["spearman_95"]
            about = f"over {told[name]['repositories']} repositories"
            show(
                f"Spearman's correlation with {what}: {told[name]['spearman']:.2f} ({low:.2f} to {high:.2f}), {about}"
            )


@app.command()
def merge(
    adapter: Annotated[Path, typer.Argument(help="The folder `adapter` of a training.")],
    out: Annotated[Path, typer.Option(help="The model, a new folder.")],
) -> None:
    """Write an adapter and its base as one model, which any server loads."""
    from training import sft as tuning

    tuning.merge(adapter, out)
    show(f"{out}: one model")


def overrides(changed: list[str] | None) -> dict[str, object]:
    """Return KEY=VALUE texts as a mapping; values are read as YAML."""
    read: dict[str, object] = {}
    for text in changed or ():
        key, equals, value = text.partition("=")
        if not equals or not all(part.isidentifier() for part in key.split(".")):
            raise BadSetting(f"{text!r} is no setting. Write KEY=VALUE, e.g. trainer.max_steps=10.")
        try:
            read[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadSetting(f"{text!r}: the value is not YAML: {error}") from error
    return read
