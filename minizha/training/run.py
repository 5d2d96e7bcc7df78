"""A run of ``minizha pretrain``: progress bar, held-out metrics, guesses, and a model folder."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections import deque
from pathlib import Path

from minizha.checkpoint.folder import WEIGHTS_NAME
from minizha.config_files import CONFIG_NAME
from minizha.errors import MinizhaError, visible
from minizha.files import check_target, folder_path, make_folder, write_atomic
from minizha.model.pretraining import NezhaForPreTraining
from minizha.text.tokenizer_files import SETTINGS_NAME, VOCABULARY_NAME
from minizha.training.evaluation import Example, Metrics, evaluate, examples_from, mean_metrics
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import Data, new_model, prepare, train
from minizha.training.report import CURVE_NAME, CurvePoint, write_curve
from minizha.training.step import BatchMetrics

WINDOW = 50  # steps; the progress bar and the curve show means over so many
REFRESH = 10  # steps between two updates of the bar: reading a metric waits for a GPU


def run(
    corpus: str | None, out: str, options: PretrainOptions, backend: str, workers: int | None
) -> bool:
    """Train, evaluate, save. Return False if Ctrl-C ended the run early.

    After Ctrl-C, the model is saved as it is, with its vocabulary and the curve so far.

    Raises:
        MinizhaError: an option, the corpus, the backend or the folder is not usable.
    """
    folder = folder_path(out)
    data = prepare(corpus, options)
    model = new_model(data, options, backend)
    _check_writable(folder)  # before the training, not after it
    workers = workers or (1 if backend == "cupy" else min(_cores(), options.batch_size))
    name = visible(str(corpus or "三国演义 (embedded)"))
    print(
        f"{name}: {data.documents} documents, {data.characters:,} characters; "
        f"{len(data.held_out_documents)} documents held out\n"
        f"vocabulary {len(data.tokenizer):,} characters, model {model.num_parameters():,} parameters, "
        f"{backend}, {workers} process{'es' if workers > 1 else ''}"
    )
    curve: list[CurvePoint] = []
    started, finished = time.monotonic(), False
    try:
        _train_with_bar(model, data, options, workers, curve)
        finished = True
        took = time.monotonic() - started
        held_out = evaluate(model, data.held_out)
    except KeyboardInterrupt:
        model.eval()
        held_out = None
    save(folder, model, data, curve, held_out)
    if not finished or held_out is None:
        print(f"\ninterrupted; the model so far is in {visible(str(folder))}")
        return False
    _print_results(held_out, took)
    examples = examples_from(model, data.tokenizer, data.held_out_documents)
    if examples:
        print("\nheld-out sentences:", *map(_describe, examples), sep="\n")
    print(f"\nmodel, vocabulary and loss curve are in {visible(str(folder))}")
    print(f"guess a masked character with\n{visible(_fill_mask_command(folder))}")
    return True


def save(
    folder: Path,
    model: NezhaForPreTraining,
    data: Data,
    curve: list[CurvePoint],
    held_out: Metrics | None,
) -> None:
    """Write the model and its tokenizer together, then the curve.

    Raises:
        FileError: a file can't be written.
    """
    model.save_pretrained(folder, tokenizer=data.tokenizer)
    write_curve(folder, curve, held_out)


def _train_with_bar(
    model: NezhaForPreTraining,
    data: Data,
    options: PretrainOptions,
    workers: int,
    curve: list[CurvePoint],
) -> None:
    from tqdm import tqdm

    recent: deque[BatchMetrics] = deque(maxlen=WINDOW)
    tokens = options.batch_size * options.length
    started = time.monotonic()
    layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
    with tqdm(total=options.steps, bar_format=layout, desc="pretrain") as bar:
        for step, metrics in enumerate(train(model, data, options, workers), start=1):
            recent.append(metrics)
            if step % REFRESH and step != options.steps:
                continue
            mean = mean_metrics(list(recent))
            loss = mean.word_loss + mean.pair_loss
            if not math.isfinite(loss):
                raise MinizhaError(
                    f"step {step}: expected a finite loss, found {loss}; nothing was saved. A smaller "
                    f"--learning-rate than {options.learning_rate:g} may help"
                )
            speed = step * tokens / (time.monotonic() - started)
            bar.set_postfix_str(
                f"loss {loss:.3f}, words {mean.word_accuracy:.3f}, pairs {mean.pair_accuracy:.3f}, "
                f"{speed:,.0f} tok/s",
                refresh=False,
            )
            bar.update(step - bar.n)
            if step % WINDOW == 0 or step == options.steps:
                curve.append(CurvePoint(step, mean))


def _print_results(held_out: Metrics, seconds: float) -> None:
    print(
        f"\ntrained in {seconds / 60:.1f} minutes; on the held-out documents:\n"
        f"  masked words    accuracy {held_out.word_accuracy:.3f}, loss {held_out.word_loss:.3f} nats "
        f"({held_out.words:,} words)\n"
        f"  next sentence   accuracy {held_out.pair_accuracy:.3f}, loss {held_out.pair_loss:.3f} nats "
        f"({held_out.pairs:,} pairs)"
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


def _check_writable(folder: Path) -> None:
    make_folder(folder)
    for name in (CONFIG_NAME, WEIGHTS_NAME, VOCABULARY_NAME, SETTINGS_NAME, CURVE_NAME):
        check_target(folder / name)
    probe = folder / f".minizha-{os.getpid()}.probe"
    write_atomic(probe, b"")
    probe.unlink(missing_ok=True)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)
