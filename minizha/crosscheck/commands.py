"""The commands ``minizha trace``, ``minizha compare`` and ``minizha vectors verify``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

from minizha.errors import ArgumentError, FileError, MinizhaError, visible

# NumPy is imported inside the commands: `minizha --help` need not wait for it

EXIT_EQUAL, EXIT_DIFFERENT = 0, 1
"""The exit statuses of a comparison; every command exits with 2 where its input can't be used."""

WIDEST = 100
_BARS = str.maketrans({"█": "#"} | dict.fromkeys("▏▎▍▌▋▊▉", ""))


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of this module to those of the command line."""
    _add_trace(commands)
    _add_compare(commands)
    _add_vectors(commands)


def _add_trace(commands: argparse._SubParsersAction) -> None:
    tracing = commands.add_parser(
        "trace", help="write every activation and gradient of one call into a file"
    )
    tracing.add_argument("model", metavar="MODEL", help="a model folder, or a hub id")
    tracing.add_argument(
        "--inputs",
        required=True,
        metavar="FILE",
        help='the arguments of the call: JSON, {"input_ids": [[5, 6, 7]], …}, or safetensors',
    )
    tracing.add_argument("--out", required=True, metavar="FILE", help="the trace, safetensors")
    tracing.add_argument("--gradients", action="store_true", help="also run the backward pass")
    tracing.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        help="the dtype to compute in (default: that of the stored weights)",
    )
    tracing.add_argument(
        "--class",
        dest="model_class",
        metavar="NAME",
        help="such as NezhaForMaskedLM (default: that of the folder)",
    )
    tracing.add_argument(
        "--backend", default="numpy", metavar="NAME", help="numpy or cupy (default: numpy)"
    )
    tracing.add_argument(
        "--no-parameters",
        action="store_true",
        help="leave the parameters out: smaller, but a comparison judges fewer steps by themselves",
    )
    tracing.add_argument(
        "--no-rounding",
        action="store_true",
        help="don't measure what rounding does to each array: faster, but a comparison must do it",
    )
    tracing.set_defaults(command=_trace)


def _add_compare(commands: argparse._SubParsersAction) -> None:
    comparing = commands.add_parser(
        "compare",
        help="where another implementation first differs, by how much, and why",
        epilog="exit status: 0 equal, 1 different or undecided, 2 a file that can't be used",
    )
    comparing.add_argument("ours", metavar="OURS", help="a file of minizha trace")
    comparing.add_argument("theirs", metavar="THEIRS", help="safetensors, arrays under our names")
    comparing.add_argument(
        "--mapping",
        metavar="FILE",
        help='JSON: {"our name": "their name"}, '
        'or {"our name": {"name": "their name", "transpose": true}}',
    )
    for name in ("--rtol", "--atol"):
        comparing.add_argument(
            name,
            type=float,
            metavar="X",
            help="equal means |ours − theirs| ≤ atol + rtol · |ours|, not what rounding explains",
        )
    comparing.add_argument("--every", action="store_true", help="list every array")
    comparing.add_argument("--json", action="store_true", help="print JSON in place of the table")
    comparing.add_argument("--html", metavar="FILE", help="also write a page with pictures")
    comparing.add_argument(
        "--no-diagnosis", action="store_true", help="don't try the known mistakes"
    )
    comparing.set_defaults(command=_compare)


def _add_vectors(commands: argparse._SubParsersAction) -> None:
    vectors = commands.add_parser("vectors", help="check results against the test vectors")
    actions = vectors.add_subparsers(required=True, metavar="ACTION")
    verifying = actions.add_parser(
        "verify",
        help="check the results that an implementation computed for the vectors",
        epilog="exit status: 0 all cases right, 1 one is wrong or (without --partial) missing, 2 a "
        "file that can't be used",
    )
    verifying.add_argument(
        "folder", metavar="DIR", help="the results: CASE.safetensors for each case"
    )
    verifying.add_argument(
        "--vectors", metavar="DIR", help="the vectors (default: vectors/v1 of the repository)"
    )
    verifying.add_argument("--json", action="store_true", help="print JSON in place of lines")
    verifying.add_argument(
        "--partial", action="store_true", help="accept results for some of the cases only"
    )
    verifying.set_defaults(command=_verify)


def _trace(options: argparse.Namespace) -> int:
    from minizha.checkpoint.hub import MODEL_FILES, local_folder
    from minizha.crosscheck.comparison.overall import rounding_of
    from minizha.crosscheck.inputs_file import read_inputs_file
    from minizha.crosscheck.tracing import trace
    from minizha.model.auto import CLASSES, class_of
    from minizha.model.loading import read_model_folder
    from minizha.targets import check_target, refuse_to_overwrite

    check_target(options.out)  # fail before the computation, not after it
    folder = local_folder(options.model, MODEL_FILES)
    refuse_to_overwrite("--out", options.out, options.inputs, *folder.iterdir())
    _refuse_part_of_a_model("--out", options.out)
    classes = {c.__name__: c for c in CLASSES}
    if options.model_class is not None and options.model_class not in classes:
        expected = ", ".join(classes)
        raise ArgumentError(f"--class: expected one of {expected}, found {options.model_class!r}")
    if options.model_class is None:
        model_class = class_of(*read_model_folder(folder))
    else:
        model_class = classes[options.model_class]
    inputs = read_inputs_file(options.inputs, model_class)
    model = model_class.from_pretrained(folder, dtype=options.dtype, backend=options.backend)
    arrays = trace(model, inputs, gradients=options.gradients)
    _refuse_what_is_no_number(options.model, arrays)
    if not options.no_rounding:
        with _bar("rounding") as progress:
            rounding_of(arrays, "float32", progress)  # errors of float64 are scaled from these
    arrays.save(options.out, parameters=not options.no_parameters)
    print(
        f"{visible(options.out)}: {len(arrays)} arrays of {model_class.__name__} in {model.dtype}"
    )
    return EXIT_EQUAL


def _compare(options: argparse.Namespace) -> int:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(
            name, "1"
        )  # products are small: more threads only wait for each other
    from minizha.crosscheck.comparing import compare
    from minizha.crosscheck.report.text import as_text, wants_color
    from minizha.files import write_atomic
    from minizha.targets import check_target, refuse_to_overwrite

    if options.html is not None:
        check_target(options.html)
        sources = [options.ours, options.theirs, options.mapping]
        refuse_to_overwrite("--html", options.html, *filter(None, sources))
        _refuse_part_of_a_model("--html", options.html)
    with _bar("compare") as progress:
        report = compare(
            options.ours,
            options.theirs,
            rtol=options.rtol,
            atol=options.atol,
            mapping=options.mapping,
            diagnose=not options.no_diagnosis,
            progress=progress,
        )
    fault = None
    if options.html is not None:
        try:
            write_atomic(options.html, report.to_html().encode())
        except FileError as error:  # such as a full disk: the verdict is printed all the same
            fault = error
    if options.json:
        _print_json(report.to_json())
    else:
        width = min(WIDEST, shutil.get_terminal_size((WIDEST, 0)).columns)
        text = as_text(report, wants_color(sys.stdout), width, every=options.every)
        print(text if _can_write("█") else text.translate(_BARS))
    if fault:
        raise fault
    return _status(report.ok)


def _verify(options: argparse.Namespace) -> int:
    from minizha.crosscheck.vectors import verify

    report = verify(options.folder, options.vectors)
    complete = options.partial or not report.counts["missing"]
    if options.json:
        _print_json(report.to_json() | {"ok": report.ok and complete})
    else:
        print(report)
        if report.ok and not complete:
            print("not all cases have results: exit status 1; with --partial it is 0")
    return _status(report.ok and complete)


def _refuse_what_is_no_number(model: str, arrays: Any) -> None:
    """Raise if the trace holds NaN or infinity: a comparison with it would say nothing."""
    import numpy as np

    for kind, named in (("parameter", arrays.parameters), ("array", arrays)):
        for name, array in named.items():
            if not np.isfinite(array).all():
                raise MinizhaError(
                    f"{model}: expected finite numbers, found NaN or infinity in the {kind} {name}; "
                    "the model is damaged"
                )


def _refuse_part_of_a_model(option: str, target: str) -> None:
    """Raise if ``target`` is, or would become, the configuration or the weights of a model folder."""
    from minizha.checkpoint.folder import WEIGHTS_NAMES
    from minizha.config_files import CONFIG_NAME
    from minizha.files import names_present

    folder, name = os.path.split(target)
    parts = (CONFIG_NAME, *WEIGHTS_NAMES)
    if name in parts and names_present(folder, parts):
        raise ArgumentError(
            f"{option}: expected another file, found {target}, a name of the model in that folder"
        )


def _can_write(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _status(ok: bool) -> int:
    return EXIT_EQUAL if ok else EXIT_DIFFERENT


def _print_json(content: Any) -> None:
    # ASCII is valid JSON on any stdout; there, other characters would become \\xNN or \\UXXXXXXXX
    print(json.dumps(content, allow_nan=False, indent=1))


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, if that is a terminal."""
    from tqdm import tqdm

    from minizha.progress import bar_options

    options = {"disable": None} | bar_options()  # None: tqdm checks for a terminal
    with tqdm(desc=name, unit=" arrays", leave=False, **options) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
