"""One session of a run: it trains, writes checkpoints and the log, and saves whatever ends it."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

from minizha.errors import CheckpointWarning, FileError, visible
from minizha.files import write_atomic
from minizha.interrupts import delay_interrupts
from minizha.progress import progress_bar
from minizha.training.checkpoints import (
    CHECKPOINTS_NAME,
    FINISHED_NAME,
    Checkpoint,
    checkpoint_path,
    prune,
    read_newest,
    remove_checkpoints,
    write_checkpoint,
)
from minizha.training.evaluation import (
    Metrics,
    evaluate,
    evenly_spaced,
    examples_from,
    mean_metrics,
)
from minizha.training.history import LOG_NAME, History, Log
from minizha.training.keeping import holds_model, save_somewhere
from minizha.training.messages import print_end, print_results, raise_with_place
from minizha.training.options import RunOptions
from minizha.training.pretrain import Data, train
from minizha.training.report import CurvePoint, write_curve
from minizha.training.resuming import changes
from minizha.training.state import WINDOW, DivergenceError, TrainingState
from minizha.training.step import BatchMetrics

REFRESH = 10  # steps between two updates of the bar, and two lines of the log
SAMPLE = 128  # rows of the held-out examples that are evaluated along the way


class Session:
    """One session of a run: what it trains, and where it keeps what.

    Args:
        folder: of the model; ``checkpoints/`` and ``log.jsonl`` are in it.
        state: the model, and everything that its next step depends on.
        about: what a checkpoint says of the run (:func:`~minizha.training.resuming.describe_run`).
        keep: which checkpoints are kept, and how often they are written.
    """

    def __init__(
        self,
        folder: Path,
        data: Data,
        state: TrainingState,
        about: dict[str, Any],
        keep: RunOptions,
    ) -> None:
        self.folder, self.data, self.state, self.about, self.keep = folder, data, state, about, keep
        self.model, self.options = state.model, state.options
        self.checkpoints = folder / CHECKPOINTS_NAME
        self.history, self.log = History(), Log(folder / LOG_NAME)
        self.resumed = False
        self.replace = False  # whether a complete model may replace the one in the folder
        self.own = not holds_model(folder)  # any model that is in the folder is of this run
        self.saved_step = -1  # of the newest checkpoint; −1: there is none
        self.started = self.saved_at = time.monotonic()

    # the beginning

    def resume(self, checkpoint: Checkpoint | None) -> bool:
        """Go on from ``checkpoint``, and say so; return whether there is nothing left to do."""
        if checkpoint is None:
            print(f"no checkpoint in {visible(str(self.folder))}: training begins with step 1")
            return False
        state = self.state
        state.restore(checkpoint.parameters, checkpoint.moments, checkpoint.record)
        self.history = History.from_json(checkpoint.record)
        self.own, self.resumed, self.replace = checkpoint.record["own"], True, True
        self.saved_step = checkpoint.step
        if (self.checkpoints / FINISHED_NAME).exists() and holds_model(self.folder):
            print(f"the run in {visible(str(self.folder))} is finished: {state.step} steps")
            return True
        print(f"resumed after step {state.step}, from {visible(str(checkpoint.path))}")
        if found := changes(checkpoint, self.about):
            print(f"not to the same bits, only up to rounding: {visible(', '.join(found))}")
        return False

    def begin(self, overwrite: bool) -> None:
        """The first checkpoint, before step 1, and the first line of the log."""
        if not self.resumed:
            self.replace = overwrite
            remove_checkpoints(self.checkpoints)
        self.log.begin(self.state.step)
        self.log.write(step=self.state.step, event="resume" if self.resumed else "start")
        if not self.resumed:
            self._checkpoint()

    # the training

    def train_and_evaluate(self) -> tuple[BaseException | None, Metrics | None]:
        """What ended the training early, else the held-out metrics. Nothing is raised, because nothing
        may lose the model."""
        try:
            self._train()
            return None, evaluate(self.model, self.data.held_out)
        except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001
            traceback.clear_frames(error.__traceback__)  # their arrays: saving takes memory, too
            return error, None

    def _train(self) -> None:
        state, options = self.state, self.options
        workers = self.about["workers"]

        def steps() -> Generator[BatchMetrics, None, None]:
            yield from train(self.model, self.data, options, workers, state)

        first = state.step
        tokens = options.batch_size * options.accumulate * options.length
        if self.resumed:
            self._add_points()  # an interrupt may have come between a step and its points
        # closed at once, whatever ends the loop: this ends the processes
        with (
            progress_bar(options.steps, "pretrain", first) as show,
            contextlib.closing(steps()) as iterator,
        ):
            begun = time.monotonic()
            for _ in iterator:
                if state.skipped_in_a_row:
                    self.log.write(
                        step=state.step, event="skipped", in_a_row=state.skipped_in_a_row
                    )
                if state.step % REFRESH == 0 or state.step == options.steps:
                    speed = (state.step - first) * tokens / (time.monotonic() - begun)
                    show(state.step, self._progress(speed))
                best = self._add_points()
                minutes = (time.monotonic() - self.saved_at) / 60
                if best or minutes >= self.keep.checkpoint_minutes or state.step == options.steps:
                    self._checkpoint_or_note()

    def _progress(self, speed: float) -> str:
        """Write a line of the log; return the text beside the bar."""
        state, recent = self.state, list(self.state.recent)
        if not recent:
            return "all steps were skipped"
        last = mean_metrics(recent[-REFRESH:])
        self.log.write(
            step=state.step,
            **last._asdict(),
            learning_rate=state.rate,
            gradient_norm=state.norm,
            tokens_per_second=speed,
            seconds=self._seconds(),
            skipped=state.skipped,
        )
        mean = mean_metrics(recent)
        return (
            f"loss {mean.word_loss + mean.pair_loss:.3f}, words {mean.word_accuracy:.3f}, "
            f"pairs {mean.pair_accuracy:.3f}, {speed:,.0f} tok/s"
        )

    def _add_points(self) -> bool:
        """The points of the curve that are due after this step; return whether the held-out one is the
        best so far."""
        state, history = self.state, self.history
        step, last = state.step, state.step == self.options.steps

        def due(points: list[CurvePoint], every: int) -> bool:
            return (
                bool(step) and (step % every == 0 or last) and step not in {p.step for p in points}
            )

        if due(history.curve, WINDOW) and state.recent:
            history.curve.append(CurvePoint(step, mean_metrics(list(state.recent))))
        if not due(history.held_out, self.keep.evaluate_every):
            return False
        # a copy: the evaluation leaves its model in eval mode
        found = evaluate(self.model.copy_with(), evenly_spaced(self.data.held_out, SAMPLE))
        history.held_out.append(CurvePoint(step, found))
        self.log.write(step=step, held_out=found._asdict())
        return history.best_step() == step

    # checkpoints

    def _checkpoint(self) -> None:
        """Write a checkpoint of this moment, and remove those that are no longer kept.

        While steps are skipped there is none: the newest one is from before.
        """
        self.saved_at = time.monotonic()
        if self.state.skipped_in_a_row or not self.state.whole:
            return
        about = self.about | self.history.to_json() | {"own": self.own, "seconds": self._seconds()}
        with delay_interrupts():
            write_checkpoint(self.checkpoints, self.state, self.data.tokenizer, about)
            self.saved_step = self.state.step
        prune(self.checkpoints, self.keep.keep_last, self.history.best_step())

    def _checkpoint_or_note(self) -> None:
        """A disk that is full ends no training: it may have room again, or the model goes elsewhere."""
        try:
            self._checkpoint()
        except FileError as error:
            self.log.write(step=self.state.step, event="no checkpoint", reason=str(error))
            warnings.warn(f"no checkpoint was written: {error}", CheckpointWarning, stacklevel=2)

    def _seconds(self) -> float:
        return self.history.seconds + time.monotonic() - self.started

    # the end

    def end(self, failure: BaseException | None, held_out: Metrics | None) -> bool:
        """Save and report; see :func:`~minizha.training.run.run`."""
        state, seconds = self.state, self._seconds()
        if failure is not None and state.step == 0 and not isinstance(failure, KeyboardInterrupt):
            remove_checkpoints(self.checkpoints)  # nothing was learnt; they would be in the way
            with contextlib.suppress(OSError):
                self.checkpoints.rmdir()
                self.log.path.unlink(missing_ok=True)
            raise failure
        if isinstance(failure, DivergenceError):
            self._return_to_checkpoint()
        elif self.saved_step != state.step:
            self._checkpoint_or_note()
        saved, fault = self._save(held_out, complete=failure is None)
        self.log.write(
            step=state.step,
            event="end" if failure is None else type(failure).__name__,
            seconds=seconds,
            held_out=held_out and held_out._asdict(),
        )
        if held_out is not None:
            print_results(held_out, seconds, state.skipped)
        if isinstance(failure, KeyboardInterrupt):
            print(
                f"\ninterrupted after step {state.step}; --resume goes on after step {self.saved_step}"
            )
            print(f"the model so far is in {visible(str(saved))}")
            return False
        if failure is not None:
            raise_with_place(failure, saved, self.saved_step)
        fault = fault or self._mark_finished(held_out, seconds)
        if fault:
            raise FileError(f"{fault}; the model is in {saved}")
        best = self.history.best_step()
        better = None if best in (None, state.step) else checkpoint_path(self.checkpoints, best)
        print_end(
            saved,
            examples_from(self.model, self.data.tokenizer, self.data.held_out_documents),
            better,
        )
        return True

    def _mark_finished(self, held_out: Metrics | None, seconds: float) -> str:
        """Write that there is nothing left to do; return what was wrong."""
        metrics = held_out and held_out._asdict()
        content = {"step": self.state.step, "seconds": seconds, "held_out": metrics}
        try:
            write_atomic(self.checkpoints / FINISHED_NAME, json.dumps(content).encode("ascii"))
        except FileError as error:
            return str(error)
        return ""

    def _return_to_checkpoint(self) -> None:
        """The parameters may be those that gave no finite loss: take those of the newest checkpoint."""
        checkpoint, _ = read_newest(self.checkpoints)
        if checkpoint is not None:
            self.state.restore(checkpoint.parameters, checkpoint.moments, checkpoint.record)
            self.saved_step = checkpoint.step

    def _save(self, held_out: Metrics | None, *, complete: bool) -> tuple[Path, str]:
        """Write the model and its tokenizer together, then the curve. Return the folder that holds them
        now, and what else could not be written.

        An incomplete model replaces none but an earlier one of this run: it is in its checkpoint.

        Raises:
            FileError: the model can't be written anywhere.
        """
        self.model.eval()
        replace = self.replace and (complete or (self.resumed and self.own))
        here = self.saved_step == self.state.step
        if not complete and not replace and here and holds_model(self.folder):
            return checkpoint_path(self.checkpoints, self.saved_step), ""
        saved, fault = save_somewhere(
            self.folder,
            lambda place: self.model.save_pretrained(place, tokenizer=self.data.tokenizer),
            replace=replace,
        )
        try:
            write_curve(saved, self.history.curve, self.history.held_out, held_out)
        except FileError as error:
            fault = "; ".join(filter(None, (fault, str(error))))
        return saved, fault
