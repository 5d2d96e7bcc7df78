"""A pre-training run for a person: a progress bar, held-out figures, guesses, a folder at the end."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections import deque
from pathlib import Path

from minizha.checkpoint.folder import WEIGHTS_NAME
from minizha.config import CONFIG_NAME
from minizha.errors import MinizhaError
from minizha.files import check_target, folder_path, make_folder, write_atomic
from minizha.model.pretraining import NezhaForPreTraining
from minizha.text.tokenizer_files import SETTINGS_NAME, VOCABULARY_NAME
from minizha.training.evaluation import Example, Metrics, evaluate, examples_from, mean_metrics
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import Data, new_model, prepare, train
from minizha.training.report import CURVE_NAME, CurvePoint, write_curve
from minizha.training.step import BatchMetrics

WINDOW = 50  # steps that the bar's figures are means of
REFRESH = 10  # steps between two readings: reading a figure waits for a GPU


def run(
    corpus: str | None, out: str, options: PretrainOptions, backend: str, workers: int | None
) -> bool:
    """Train, evaluate, save; False where Ctrl-C ended the training early.

    On Ctrl-C the model is saved as it stands, with its vocabulary and the curve so far.

    Raises:
        MinizhaError: an option, the corpus, the backend or the folder is not usable.
    """
    folder = folder_path(out)
    data = prepare(corpus, options)
    model = new_model(data, options, backend)
    _check_writable(folder)  # now, not after five minutes
    workers = workers or (1 if backend == "cupy" else _cores())
    name = corpus or "三国演义 (embedded)"
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
        print(f"\ninterrupted; the model as it stands is in {folder}")
        return False
    _print_results(held_out, took)
    examples = examples_from(model, data.tokenizer, data.held_out_documents)
    if examples:
        print("\nheld-out sentences:", *map(_line, examples), sep="\n")
    print(f"\nmodel, vocabulary and loss curve are in {folder}\n"
          f"try: minizha fill-mask '曹操引[MASK]来攻' --model {shlex.quote(str(folder))}")  # fmt: skip
    return True


def save(
    folder: Path,
    model: NezhaForPreTraining,
    data: Data,
    curve: list[CurvePoint],
    held_out: Metrics | None,
) -> None:
    """Write the model with its tokenizer in one step, then the curve.

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
        for step, counts in enumerate(train(model, data, options, workers), start=1):
            recent.append(counts)
            if step % REFRESH and step != options.steps:
                continue
            now = mean_metrics(list(recent))
            if not math.isfinite(now.word_loss + now.pair_loss):
                raise MinizhaError(
                    f"step {step}: the loss is no longer a number; a smaller --learning-rate may help "
                    f"(it was {options.learning_rate:g}). Nothing was saved"
                )
            bar.set_postfix_str(
                f"loss {now.word_loss + now.pair_loss:.3f}, words {now.word_accuracy:.3f}, "
                f"pairs {now.pair_accuracy:.3f}, {step * tokens / (time.monotonic() - started):,.0f} tok/s",
                refresh=False,
            )
            bar.update(step - bar.n)
            if step % WINDOW == 0 or step == options.steps:
                curve.append(CurvePoint(step, now))


def _print_results(held_out: Metrics, seconds: float) -> None:
    print(
        f"\ntrained in {seconds / 60:.1f} minutes; on the held-out documents:\n"
        f"  masked words    accuracy {held_out.word_accuracy:.3f}, loss {held_out.word_loss:.3f} nats "
        f"({held_out.words:,} words)\n"
        f"  next sentence   accuracy {held_out.pair_accuracy:.3f}, loss {held_out.pair_loss:.3f} nats "
        f"({held_out.pairs:,} pairs)"
    )


def _line(example: Example) -> str:
    guesses = "  ".join(f"{g.token} {g.probability:.2f}" for g in example.guesses)
    return f"  {example.text}\n    {example.answer}  ←  {guesses}"


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
