"""The command line: ``minizha pretrain``, ``fill-mask``, ``next-sentence``, ``info``, ``convert``, and
the commands of the cross-check.

Every error that a person can cause is one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn

from minizha.checks import integer
from minizha.errors import MinizhaError

# NumPy is imported inside the commands: how many threads its products take is read at import

DEFAULT_FOLDER = "minizha-sanguo"
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    if hasattr(sys.stdout, "reconfigure"):
        # a terminal without Chinese gets \uXXXX instead of a traceback
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    try:
        options = _parser().parse_args(arguments)
        status = options.command(options)
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
        return status
    except MinizhaError as error:
        print(f"minizha: error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"minizha: error: not enough memory for these sizes: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minizha: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:  # of stdout: files have errors of their own
        # keep Python from flushing, and complaining, once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read our output has had enough
            return 0
        print(f"minizha: error: can't write the output: {error.strerror or error}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    """Errors in one line, like all others; the usage is for those who ask."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"minizha: error: {message} (see {self.prog} --help)\n")


class _ShowVersions(argparse.Action):
    """Unlike argparse's action "version", it finds the versions only when they are wanted."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from minizha.versions import describe_versions

        print(describe_versions(), flush=True)
        parser.exit()


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"minizha: note: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    from minizha.crosscheck.commands import add_commands

    parser = _Parser(
        prog="minizha", description="NEZHA, the Chinese BERT with relative positions, by hand."
    )
    parser.add_argument(
        "--version",
        action=_ShowVersions,
        help="show the versions of minizha, Python and the libraries, and exit",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    pretrain = commands.add_parser("pretrain", help="train a small NEZHA from scratch, then guess")
    _add_pretrain_options(pretrain)
    pretrain.set_defaults(command=_pretrain)

    fill = commands.add_parser("fill-mask", help="guess each [MASK] in a text")
    fill.add_argument("text", metavar="TEXT", help="for example: 曹操引[MASK]来攻")
    fill.add_argument("--top-k", type=int, default=5, metavar="N", help="how many guesses (5)")
    _add_model_options(fill)
    fill.set_defaults(command=_fill_mask)

    following = commands.add_parser("next-sentence", help="how likely does B continue A?")
    following.add_argument("first", metavar="A")
    following.add_argument("second", metavar="B")
    _add_model_options(following)
    following.set_defaults(command=_next_sentence)

    info = commands.add_parser("info", help="what a model folder holds, lacks and has left over")
    info.add_argument("folder", metavar="DIR", help="a model folder, or an id of the hub")
    info.set_defaults(command=_info)

    convert = commands.add_parser(
        "convert", help="write any checkpoint the way that minizha and Transformers read it"
    )
    convert.add_argument("source", metavar="SRC", help="a model folder, or an id of the hub")
    convert.add_argument("target", metavar="DIR", help="the folder to write")
    convert.set_defaults(command=_convert)

    add_commands(commands)  # trace, compare, vectors
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default=DEFAULT_FOLDER,
        metavar="DIR",
        help=f"model folder, or an id of the hub ({DEFAULT_FOLDER})",
    )
    parser.add_argument("--backend", default="numpy", metavar="NAME", help="numpy or cupy (numpy)")


def _model(options: argparse.Namespace) -> str:
    """Which model was asked for; the default one has to be made first, no hub has it."""
    if options.model == DEFAULT_FOLDER and not os.path.isdir(DEFAULT_FOLDER):
        raise MinizhaError(
            f"{DEFAULT_FOLDER}: no such folder; minizha pretrain makes it, --model DIR takes another"
        )
    return options.model


def _add_pretrain_options(parser: argparse.ArgumentParser) -> None:
    from minizha.training.options import PretrainOptions, option_type

    parser.add_argument(
        "--corpus", metavar="FILE",
        help="UTF-8, a paragraph a line, a blank line between documents (三国演义, which comes along)",
    )  # fmt: skip
    parser.add_argument(
        "--out", default=DEFAULT_FOLDER, metavar="DIR", help=f"model folder ({DEFAULT_FOLDER})"
    )
    parser.add_argument("--backend", default="numpy", metavar="NAME", help="numpy or cupy (numpy)")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="parts of a batch computed side by side (one a core)",
    )
    for f in fields(PretrainOptions):
        name, text = "--" + f.name.replace("_", "-"), f"{f.metadata['help']} ({f.default:g})"
        parser.add_argument(name, type=option_type(f), default=f.default, metavar="N", help=text)


def _pretrain(options: argparse.Namespace) -> int:
    from minizha.training.options import PretrainOptions

    settings = PretrainOptions(
        **{f.name: getattr(options, f.name) for f in fields(PretrainOptions)}
    )
    integer("--workers", options.workers, 1, optional=True)
    # the parts of a batch run side by side, so each product gets one thread: with two of them on
    # two cores, the products of one part would wait for those of the other
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from minizha.training.run import run

    whole = run(options.corpus, options.out, settings, options.backend, options.workers)
    return 0 if whole else INTERRUPTED


def _fill_mask(options: argparse.Namespace) -> int:
    from minizha.model.pretraining import NezhaForMaskedLM
    from minizha.predict import fill_mask, load_for_text

    model, tokenizer = load_for_text(NezhaForMaskedLM, _model(options), options.backend)
    for number, guesses in enumerate(fill_mask(model, tokenizer, options.text, options.top_k), 1):
        print(f"[MASK] {number}")
        for guess in guesses:
            print(f"  {guess.token}\t{guess.probability:.4f}")
    return 0


def _next_sentence(options: argparse.Namespace) -> int:
    from minizha.model.pretraining import NezhaForNextSentencePrediction
    from minizha.predict import load_for_text, next_sentence_probability

    model, tokenizer = load_for_text(
        NezhaForNextSentencePrediction, _model(options), options.backend
    )
    probability = next_sentence_probability(model, tokenizer, options.first, options.second)
    print(f"B continues A\t{probability:.4f}\nB is random\t{1 - probability:.4f}")
    return 0


def _info(options: argparse.Namespace) -> int:
    from minizha.info import describe_folder

    print(describe_folder(options.folder))
    return 0


def _convert(options: argparse.Namespace) -> int:
    from minizha.convert import convert

    print(f"{options.target}: {convert(options.source, options.target)}")
    return 0
