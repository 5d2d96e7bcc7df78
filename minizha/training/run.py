"""A run of ``minizha pretrain``: what is checked and read before it begins or goes on."""

from __future__ import annotations

import warnings
from pathlib import Path

from minizha.errors import ArgumentError, CheckpointWarning, FileError, visible
from minizha.files import folder_path, make_folder
from minizha.interrupts import delay_interrupts
from minizha.text.data_folder import check_no_data
from minizha.text.processes import available_cores
from minizha.training.checkpoints import CHECKPOINTS_NAME, Checkpoint, read_newest
from minizha.training.dry_run import print_dry_run
from minizha.training.keeping import check_out, make_out
from minizha.training.messages import print_start
from minizha.training.options import PretrainOptions, RunOptions
from minizha.training.pretrain import Data, new_model, prepare
from minizha.training.resuming import check_same_run, describe_run
from minizha.training.session import Session
from minizha.training.state import TrainingState
from minizha.transaction import exclusive


def run(
    corpus: str | None,
    out: str,
    options: PretrainOptions,
    backend: str,
    workers: int | None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    keep: RunOptions | None = None,
) -> bool:
    """Train, evaluate, save. Return False if Ctrl-C ended the run early.

    However the run ends, what there is is saved: a checkpoint, from which ``resume`` goes on; the model
    with its vocabulary, and the curve so far. A model that was in the folder before the run stays there
    until the new one is complete.

    Args:
        overwrite: replace the model and the run that are in the folder.
        resume: go on from the newest checkpoint in the folder; without one, begin with step 1.
        dry_run: only print the sizes, the memory and the time of the run; nothing is written.
        keep: which checkpoints are kept, and how often they are written.

    Raises:
        MinizhaError: an option, the corpus, the backend or the folder is not usable; the folder
            holds a model, and neither ``overwrite`` nor ``resume`` says what becomes of it; the run to
            resume is another one; many steps in a row had numbers that are not finite, a process
            ended, or the disk is full. Then the message names the folder with the model.
    """
    if overwrite and resume:
        raise ArgumentError("--resume, --overwrite: expected one of them, found both")
    folder = folder_path(out)
    check_no_data(folder)  # before the work, not after it
    check_out(folder, corpus, overwrite, resume)
    data = prepare(corpus, options)
    model = new_model(data, options, backend)
    keep = keep or RunOptions()
    name = visible(str(corpus or "三国演义 (embedded)"))
    if dry_run:
        workers = workers or default_workers(backend, options)
        print_start(name, data, model, workers)
        print_dry_run(model, data, options, workers, keep)
        return True
    make_out(folder)
    make_folder(folder / CHECKPOINTS_NAME)
    with exclusive(str(folder / CHECKPOINTS_NAME)) as free:
        if not free:
            raise FileError(f"{folder}: expected a folder of its own: another process trains in it")
        checkpoint = _newest(folder, options, data) if resume else None
        if checkpoint is not None:
            workers = workers or checkpoint.record["workers"]
        workers = workers or default_workers(backend, options)
        print_start(name, data, model, workers)
        about = describe_run(options, data, backend, workers)
        session = Session(folder, data, TrainingState(model, options), about, keep)
        if resume and session.resume(checkpoint):
            return True
        session.begin(overwrite)
        failure, held_out = session.train_and_evaluate()
        with delay_interrupts():  # a second Ctrl-C must not stop what the first one begins
            return session.end(failure, held_out)


def _newest(folder: Path, options: PretrainOptions, data: Data) -> Checkpoint | None:
    """The newest whole checkpoint of the run in ``folder``, which has to be this one."""
    checkpoint, faults = read_newest(folder / CHECKPOINTS_NAME)
    if checkpoint is not None:
        check_same_run(checkpoint, options, data)
    for fault in faults:
        warnings.warn(f"{fault}; an older checkpoint is used", CheckpointWarning, stacklevel=3)
    return checkpoint


def default_workers(backend: str, options: PretrainOptions) -> int:
    """One process a core, at most 8 and at most one for each row."""
    return 1 if backend == "cupy" else min(available_cores(), options.batch_size)
