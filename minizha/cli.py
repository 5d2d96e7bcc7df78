"""The command line: ``minizha pretrain`` and the other commands; those of training, the cross-check and
the exercises are added by their packages.

Every error that a person can cause is one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields

from minizha.checks import integer
from minizha.errors import ArgumentError, MinizhaError, visible
from minizha.interrupts import ending_signals_interrupt
from minizha.parser import DEFAULT_FOLDER, Parser, ShowVersions, about_bytes

# NumPy is imported inside the commands: at its import, the BLAS reads how many threads to use

INTERRUPTED = 130
NEWLINE = "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    _fill_closed_streams()
    with ending_signals_interrupt() as received:
        status = _run(arguments)
    return 128 + received[0] if received else status


def _run(arguments: Sequence[str] | None) -> int:
    if hasattr(sys.stdout, "reconfigure"):
        # a terminal whose encoding lacks Chinese shows \uXXXX instead of a traceback
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    # OpenBLAS's threads wait in a busy loop for the next product; a short one leaves cores to minizha's
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "8")
    try:
        options = _parser().parse_args(arguments)
        status = options.command(options)
        if sys.stdout is not None:  # None if the parent process closed it
            sys.stdout.flush()
        return status
    except MinizhaError as error:
        _say(f"error: {error}{about_bytes(str(error))}")
        return 2
    except MemoryError as error:
        _say(f"error: not enough memory for these sizes: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except OSError as error:  # of stdout: those of other files are MinizhaErrors
        # else Python would flush stdout at exit and report the error again
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader, such as head, has what it wants
            return 0
        _say(f"error: can't write the output: {error.strerror or error}")
        return 2


def _fill_closed_streams() -> None:
    """Open /dev/null in the place of each standard stream that is closed: else the next file opened
    would be taken for it, and get what others write there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _say(text: str) -> None:
    """Write a line to stderr, if there is one: ``print`` would take stdout in its place."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"minizha: {visible(text, keep=NEWLINE)}", file=sys.stderr)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _say(f"note: {message}")


def _parser() -> argparse.ArgumentParser:
    from minizha.crosscheck.commands import add_commands
    from minizha.exercises.commands import add_commands as add_exercise_commands
    from minizha.training.commands import add_commands as add_training_commands

    parser = Parser(
        prog="minizha", description="NEZHA, the Chinese BERT with relative positions, by hand."
    )
    parser.add_argument(
        "--version",
        action=ShowVersions,
        help="show the versions of minizha, Python and the libraries, and exit",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    pretrain = commands.add_parser("pretrain", help="train a small NEZHA from scratch")
    _add_pretrain_options(pretrain)
    pretrain.set_defaults(command=_pretrain)

    add_training_commands(commands, _add_model_options, _model)  # prepare, evaluate

    fill = commands.add_parser("fill-mask", help="predict each [MASK] in a text")
    fill.add_argument("text", metavar="TEXT", help="in quotes; [MASK] marks a missing character")
    fill.add_argument(
        "--top-k", type=int, default=5, metavar="N", help="predictions for each [MASK] (5)"
    )
    _add_model_options(fill)
    fill.set_defaults(command=_fill_mask)

    continuation = commands.add_parser(
        "next-sentence", help="the probability that one sentence continues another"
    )
    continuation.add_argument("first", metavar="A", help="a sentence")
    continuation.add_argument("second", metavar="B", help="the sentence that may continue A")
    _add_model_options(continuation)
    continuation.set_defaults(command=_next_sentence)

    info = commands.add_parser(
        "info", help="list the configuration and the tensors of a model folder"
    )
    info.add_argument(
        "model",
        nargs="?",
        metavar="DIR",
        help="a model folder or a hub id (the model in the package)",
    )
    info.set_defaults(command=_info)

    convert = commands.add_parser(
        "convert", help="write a checkpoint in the format that Transformers reads"
    )
    convert.add_argument("source", metavar="SRC", help="a model folder or a hub id")
    convert.add_argument("target", metavar="DIR", help="the folder to write")
    convert.add_argument(
        "--overwrite", action="store_true", help="replace the model that is in DIR"
    )
    convert.add_argument(
        "--half",
        action="store_true",
        help="store half precision (float16): half the size, three digits",
    )
    convert.set_defaults(command=_convert)

    add_commands(commands)  # trace, compare, vectors
    add_exercise_commands(commands)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="DIR", help="model folder or hub id (the model in the package)"
    )
    parser.add_argument("--backend", default="numpy", metavar="NAME", help="numpy or cupy (numpy)")


def _model(options: argparse.Namespace) -> str:
    """The option ``--model``. Without it the shipped model answers, and a line on stderr says so: in a
    folder with models of one's own, the answer could be taken for one of theirs."""
    if options.model == DEFAULT_FOLDER and not os.path.isdir(DEFAULT_FOLDER):  # not on the hub
        raise MinizhaError(
            f"{DEFAULT_FOLDER}: no such folder; `minizha pretrain` makes it. Without --model, the model in "
            "the package answers"
        )
    if options.model is not None:
        return options.model
    from minizha.shipped import SHIPPED_FOLDER

    _say("the model in the package answers, a small one trained on 三国演义; --model names another")
    return str(SHIPPED_FOLDER)


def _add_pretrain_options(parser: argparse.ArgumentParser) -> None:
    from minizha.training.options import PretrainOptions, RunOptions, parser_keywords

    parser.add_argument(
        "--corpus",
        metavar="FILE",
        help="UTF-8, a paragraph a line, a blank line between documents; or a folder that "
        "minizha prepare wrote (the embedded 三国演义)",
    )
    parser.add_argument(
        "--out", default=DEFAULT_FOLDER, metavar="DIR", help=f"model folder ({DEFAULT_FOLDER})"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the model that is in the folder, once the new one is complete",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint in the folder; without one, begin",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print sizes, memory and time of the run, and write nothing",
    )
    parser.add_argument("--backend", default="numpy", metavar="NAME", help="numpy or cupy (numpy)")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that share each batch (one a core, at most 8)",
    )
    for f in (*fields(PretrainOptions), *fields(RunOptions)):
        parser.add_argument("--" + f.name.replace("_", "-"), **parser_keywords(f))


def _pretrain(options: argparse.Namespace) -> int:
    from minizha.training.commands import use_one_thread
    from minizha.training.options import PretrainOptions, RunOptions

    given = vars(options)
    settings = PretrainOptions(**{f.name: given[f.name] for f in fields(PretrainOptions)})
    keep = RunOptions(**{f.name: given[f.name] for f in fields(RunOptions)})
    if options.workers is not None:
        integer("--workers", options.workers, 1)
        if options.workers > settings.batch_size:
            raise ArgumentError(
                f"--workers: expected at most --batch-size = {settings.batch_size}, because each "
                f"process takes a row of the batch, found {options.workers}"
            )
    use_one_thread()
    from minizha.training.run import run

    completed = run(
        options.corpus,
        options.out,
        settings,
        options.backend,
        options.workers,
        overwrite=options.overwrite,
        resume=options.resume,
        dry_run=options.dry_run,
        keep=keep,
    )
    return 0 if completed else INTERRUPTED


def _fill_mask(options: argparse.Namespace) -> int:
    from minizha.model.pretraining import NezhaForMaskedLM
    from minizha.predict import fill_mask, load_for_text

    model, tokenizer = load_for_text(NezhaForMaskedLM, _model(options), options.backend)
    for number, guesses in enumerate(fill_mask(model, tokenizer, options.text, options.top_k), 1):
        print(f"[MASK] {number}")
        for guess in guesses:
            print(f"  {visible(guess.token)}\t{guess.probability:.4f}")
    return 0


def _next_sentence(options: argparse.Namespace) -> int:
    from minizha.model.pretraining import NezhaForNextSentencePrediction
    from minizha.predict import load_for_text, next_sentence_probability

    model, tokenizer = load_for_text(
        NezhaForNextSentencePrediction, _model(options), options.backend
    )
    probability = next_sentence_probability(model, tokenizer, options.first, options.second)
    texts = {"A": options.first, "B": options.second}
    empty = [name for name, text in texts.items() if not tokenizer.tokenize(text)]
    if empty:
        _show_warning(f"there is no token in {' and in '.join(empty)}: the result means little")
    print(f"B continues A\t{probability:.4f}\nB is random\t{1 - probability:.4f}")
    return 0


def _info(options: argparse.Namespace) -> int:
    from minizha.info import describe_folder

    print(visible(describe_folder(_model(options)), keep=NEWLINE))
    return 0


def _convert(options: argparse.Namespace) -> int:
    from minizha.convert import convert

    written = convert(
        options.source, options.target, overwrite=options.overwrite, half=options.half
    )
    print(visible(f"{options.target}: {written}", keep=NEWLINE))
    return 0
