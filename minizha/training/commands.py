"""The commands ``minizha prepare`` and ``minizha evaluate``. NumPy is imported when they run."""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from minizha.checks import integer
from minizha.errors import TextWarning, visible
from minizha.training.options import CORPUS_OPTIONS, PretrainOptions, parser_keywords

MANY_UNKNOWN = 0.05
"""From this share of [UNK] on, the figures of an evaluation say little of the model."""


def add_commands(
    commands: Any,
    add_model_options: Callable[[argparse.ArgumentParser], None],
    model_of: Callable[[argparse.Namespace], str],
) -> None:
    """Add the commands. The two functions add ``--model`` to a parser, and say what it means."""
    prepare = commands.add_parser(
        "prepare", help="tokenize a corpus of any size once, for pretrain"
    )
    prepare.add_argument(
        "corpora", nargs="+", metavar="CORPUS", help="a text; several are one corpus"
    )
    prepare.add_argument("--out", required=True, metavar="DATA", help="the folder to write")
    prepare.add_argument(
        "--overwrite", action="store_true", help="replace the prepared corpus that is in DATA"
    )
    prepare.add_argument(
        "--workers", type=int, metavar="N", help="processes that tokenize (one a core, at most 8)"
    )
    _add_fields(prepare, CORPUS_OPTIONS)
    prepare.set_defaults(command=_prepare)

    evaluate = commands.add_parser("evaluate", help="the held-out figures of a model")
    evaluate.add_argument(
        "--corpus",
        metavar="FILE",
        help="a text, all documents of which are used, or a folder of minizha prepare (the held-out "
        "chapters of the embedded 三国演义)",
    )
    evaluate.add_argument(
        "--held-out",
        type=int,
        metavar="N",
        help="use every N-th document, which pretrain --held-out N holds out",
    )
    evaluate.add_argument(
        "--seed", type=int, default=2019, metavar="N", help="seed of pairs and masks (2019)"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    add_model_options(evaluate)
    _add_fields(
        evaluate, ("length", "mask_probability", "titles", "document_per_line", "json_field")
    )
    evaluate.set_defaults(command=lambda options: _evaluate(options, model_of(options)))


def use_one_thread() -> None:
    """Let the BLAS of this process, and of those that it starts, use one thread, if nothing else is set.
    Call it before NumPy is imported."""
    # two processes with two threads each would wait for each other on two cores
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _add_fields(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    for f in fields(PretrainOptions):
        if f.name in names:
            parser.add_argument("--" + f.name.replace("_", "-"), **parser_keywords(f))


def _settings(options: argparse.Namespace) -> PretrainOptions:
    """The options of a run, as far as the command has them."""
    given = vars(options)
    return PretrainOptions(
        **{f.name: given[f.name] for f in fields(PretrainOptions) if given.get(f.name) is not None}
    )


def _prepare(options: argparse.Namespace) -> int:
    settings = _settings(options)
    integer("--workers", options.workers, 1, optional=True)
    use_one_thread()
    os.environ.setdefault(
        "TOKENIZERS_PARALLELISM", "false"
    )  # the processes are as many as the cores
    from minizha.text.processes import available_cores
    from minizha.training.corpora import describe_prepared, prepare_folder

    workers = options.workers or available_cores()
    prepared = prepare_folder(
        options.corpora, options.out, settings, workers, overwrite=options.overwrite
    )
    print(describe_prepared(options.out, prepared))
    return 0


def _evaluate(options: argparse.Namespace, model: str) -> int:
    seed = integer("--seed", options.seed, 0)
    every = integer("--held-out", options.held_out, 2, optional=True)
    del options.seed
    settings = _settings(options)
    use_one_thread()
    from minizha.training.evaluating import evaluate_folder
    from minizha.training.evaluation import describe_metrics

    found = evaluate_folder(model, options.corpus, settings, seed, every, options.backend)
    if found.unknown >= MANY_UNKNOWN:
        warnings.warn(
            f"{found.unknown:.1%} of the tokens are [UNK], because the model's vocabulary does not fit "
            "the text: they are neither masked nor known",
            TextWarning,
            stacklevel=2,
        )
    if options.json:
        print(json.dumps(found.as_json(), indent=2))
        return 0
    share = f"{found.unknown:.1%} of the tokens are [UNK]"
    print(f"{visible(found.source)}; {share}\n{describe_metrics(found.metrics)}")
    return 0
