"""A run of ``minizha pretrain``: progress bar, held-out metrics, guesses, and a model folder."""

from __future__ import annotations

import contextlib
import math
import shlex
import time
import traceback
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from minizha.errors import FileError, MinizhaError, visible
from minizha.files import folder_path
from minizha.interrupts import delay_interrupts
from minizha.model.pretraining import NezhaForPreTraining
from minizha.progress import progress_bar
from minizha.text.data_folder import check_no_data
from minizha.text.processes import available_cores
from minizha.training.evaluation import (
    Example,
    Metrics,
    describe_metrics,
    evaluate,
    examples_from,
    mean_metrics,
)
from minizha.training.keeping import (
    DivergenceError,
    LastGood,
    check_out,
    make_out,
    save_somewhere,
)
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import Data, new_model, prepare, train
from minizha.training.report import CurvePoint, write_curve
from minizha.training.step import BatchMetrics

WINDOW = 50  # steps; the progress bar and the curve show means over so many
REFRESH = 10  # steps between two updates of the bar: reading a metric waits for a GPU


class Outcome(NamedTuple):
    """The held-out metrics, the seconds that the training took, and what ended it early; else None."""

    held_out: Metrics | None
    seconds: float
    failure: BaseException | None


def run(
    corpus: str | None,
    out: str,
    options: PretrainOptions,
    backend: str,
    workers: int | None,
    *,
    overwrite: bool = False,
) -> bool:
    """Train, evaluate, save. Return False if Ctrl-C ended the run early.

    However the run ends, what there is is saved: the model with its vocabulary, and the curve so
    far. A model that is in the folder stays there until the new one is complete; an incomplete one
    is then saved in OUT-interrupted.

    Raises:
        MinizhaError: an option, the corpus, the backend or the folder is not usable; the folder
            holds a model and ``overwrite`` is False; a loss is not finite, a process ended, or the
            disk is full. Then the message names the folder with the model.
    """
    folder = folder_path(out)
    check_no_data(folder)  # before the work, not after it
    check_out(folder, corpus, overwrite)
    data = prepare(corpus, options)
    model = new_model(data, options, backend)
    make_out(folder)
    workers = workers or (1 if backend == "cupy" else min(available_cores(), options.batch_size))
    _print_start(visible(str(corpus or "三国演义 (embedded)")), data, model, workers)
    curve: list[CurvePoint] = []
    good = LastGood(model)
    outcome = _train_and_evaluate(model, data, options, workers, curve, good)
    with delay_interrupts():  # a second Ctrl-C must not stop what the first one begins
        return _save_and_report(folder, model, data, curve, good, outcome, overwrite=overwrite)


def _save_and_report(
    folder: Path,
    model: NezhaForPreTraining,
    data: Data,
    curve: list[CurvePoint],
    good: LastGood,
    outcome: Outcome,
    *,
    overwrite: bool,
) -> bool:
    """What :func:`run` does after the training; its result and its errors."""
    held_out, seconds, failure = outcome
    expected = failure is None or isinstance(failure, (KeyboardInterrupt, DivergenceError))
    if failure is not None and not expected and not good.changed():
        raise failure  # before the first step: there is nothing to save
    saved, fault = _save(folder, model, data, curve, good, outcome, overwrite=overwrite)
    if held_out is not None:
        _print_results(held_out, seconds)
    if isinstance(failure, KeyboardInterrupt):
        print(f"\ninterrupted; the model so far is in {visible(str(saved))}")
        return False
    if failure is not None:
        _raise_with_place(failure, saved, good.step)
    if fault:
        raise FileError(f"{fault}; the model is in {saved}")
    examples = examples_from(model, data.tokenizer, data.held_out_documents)
    if examples:
        print("\nheld-out sentences:", *map(_describe, examples), sep="\n")
    print(f"\nmodel, vocabulary and loss curve are in {visible(str(saved))}")
    print(f"guess a masked character with\n{visible(_fill_mask_command(saved))}")
    return True


def _train_and_evaluate(
    model: NezhaForPreTraining,
    data: Data,
    options: PretrainOptions,
    workers: int,
    curve: list[CurvePoint],
    good: LastGood,
) -> Outcome:
    """Fill ``curve``; nothing is raised, because nothing may lose the model."""
    started = time.monotonic()
    try:
        _train_with_bar(model, data, options, workers, curve, good)
        seconds = time.monotonic() - started
        return Outcome(evaluate(model, data.held_out), seconds, None)
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001
        traceback.clear_frames(error.__traceback__)  # their arrays: saving takes memory, too
        return Outcome(None, time.monotonic() - started, error)


def _save(
    folder: Path,
    model: NezhaForPreTraining,
    data: Data,
    curve: list[CurvePoint],
    good: LastGood,
    outcome: Outcome,
    *,
    overwrite: bool,
) -> tuple[Path, str]:
    """Write the model and its tokenizer together, then the curve. Return the folder that holds them
    now, and what else could not be written.

    Raises:
        FileError: the model can't be written anywhere.
    """
    model.eval()
    good.restore(always=isinstance(outcome.failure, DivergenceError))
    saved, fault = save_somewhere(
        folder,
        lambda place: model.save_pretrained(place, tokenizer=data.tokenizer),
        overwrite=overwrite,
        complete=outcome.failure is None,
    )
    try:
        write_curve(saved, curve, outcome.held_out)
    except FileError as error:
        fault = "; ".join(filter(None, (fault, str(error))))
    return saved, fault


def _raise_with_place(failure: BaseException, saved: Path, step: int) -> NoReturn:
    """Raise ``failure`` with the folder in which the model is."""
    if isinstance(failure, DivergenceError):
        raise MinizhaError(
            f"{failure}; the model as it was after step {step} is in {saved}. "
            "A smaller --learning-rate may help"
        ) from failure
    place = f"the model so far is in {saved}"
    if isinstance(failure, MemoryError):
        raise MinizhaError(f"not enough memory for these sizes: {failure}; {place}") from failure
    if isinstance(failure, MinizhaError):
        raise MinizhaError(f"{failure}; {place}") from failure
    failure.add_note(place)
    raise failure


def _train_with_bar(
    model: NezhaForPreTraining,
    data: Data,
    options: PretrainOptions,
    workers: int,
    curve: list[CurvePoint],
    good: LastGood,
) -> None:
    recent: deque[BatchMetrics] = deque(maxlen=WINDOW)
    tokens = options.batch_size * options.length
    started = time.monotonic()

    def steps() -> Iterator[BatchMetrics]:
        yield from train(model, data, options, workers)

    # closed at once, whatever ends the loop: this ends the processes
    with progress_bar(options.steps, "pretrain") as show, contextlib.closing(steps()) as iterator:
        for step, metrics in enumerate(iterator, start=1):
            recent.append(metrics)
            if step % REFRESH and step != options.steps:
                continue
            mean = mean_metrics(list(recent))
            loss = mean.word_loss + mean.pair_loss
            if not math.isfinite(loss):
                raise DivergenceError(
                    f"step {step}: expected a finite loss, found {loss} "
                    f"(learning rate {options.learning_rate:g})"
                )
            good.keep(step)
            speed = step * tokens / (time.monotonic() - started)
            show(
                step,
                f"loss {loss:.3f}, words {mean.word_accuracy:.3f}, pairs {mean.pair_accuracy:.3f}, "
                f"{speed:,.0f} tok/s",
            )
            if step % WINDOW == 0 or step == options.steps:
                curve.append(CurvePoint(step, mean))


def _print_start(name: str, data: Data, model: NezhaForPreTraining, workers: int) -> None:
    print(
        f"{name}: {data.documents:,} documents, {data.characters:,} characters; "
        f"{data.held_out_count:,} documents held out\n"
        f"vocabulary {len(data.tokenizer):,} tokens, model {model.num_parameters():,} parameters, "
        f"{model.backend}, {workers} process{'es' if workers > 1 else ''}"
    )
    if data.left_out:
        print(visible(data.left_out, keep="\n"))


def _print_results(held_out: Metrics, seconds: float) -> None:
    print(
        f"\ntrained in {seconds / 60:.1f} minutes; on the held-out documents:\n"
        f"{describe_metrics(held_out)}"
    )


def _describe(example: Example) -> str:
    guesses = "  ".join(f"{visible(g.token)} {g.probability:.2f}" for g in example.guesses)
    return f"  {visible(example.text)}\n    {visible(example.answer)}  ←  {guesses}"


def _fill_mask_command(folder: Path) -> str:
    """A command that a person can copy into a shell, whatever the name of the folder."""
    name = str(folder)
    if name[0] in "-=":  # an option to argparse; zsh replaces =NAME by the path of a program
        name = f"./{name}"
    return f"minizha fill-mask '曹操引[MASK]来攻' --model {shlex.quote(name)}"
