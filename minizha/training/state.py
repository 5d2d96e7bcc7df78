"""The state of a run between two steps: everything that its next step depends on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from minizha.backend import to_backend, to_host
from minizha.errors import MinizhaError
from minizha.interrupts import delay_interrupts
from minizha.model.pretraining import NezhaForPreTraining
from minizha.nezha.parameters import unflatten
from minizha.training.optimizer import AdamW, NotFiniteError, clipping_factor
from minizha.training.options import PretrainOptions
from minizha.training.schedule import linear_schedule
from minizha.training.step import BatchMetrics, Gradients

WINDOW = 50
"""Steps; the progress bar and the curve show means over so many."""
MOST_SKIPPED = 10
"""So many steps in a row without finite numbers end a run."""
_COUNTERS = ("step", "skipped", "skipped_in_a_row")


class DivergenceError(MinizhaError):
    """The losses or gradients of several steps in a row are not finite."""


class TrainingState:
    """Model, optimizer, random streams and counters, after ``step`` steps.

    The batches and their masks are drawn from one stream, the dropout from the model's. Both are
    recorded as they were before the current step, until it is complete: so :meth:`numbers` and
    :meth:`arrays` tell one moment, whatever interrupts a step.

    Attributes:
        step: the steps that are complete; skipped ones count.
        skipped, skipped_in_a_row: the steps without an update, all of them and the last ones.
        recent: the metrics of the last ``WINDOW`` steps that were not skipped.
        rate, norm: learning rate and global norm of the gradients in the last step.
        whole: False if an update was begun and not completed.
    """

    def __init__(self, model: NezhaForPreTraining, options: PretrainOptions) -> None:
        self.model, self.options = model, options
        self.optimizer = AdamW(model, betas=(0.9, options.beta2), weight_decay=options.weight_decay)
        self.rng = np.random.default_rng([options.seed, 1])
        self.step = self.skipped = self.skipped_in_a_row = 0
        self.rate, self.norm, self.whole = 0.0, 0.0, True
        self.recent: deque[BatchMetrics] = deque(maxlen=WINDOW)
        model.train(options.seed)
        self._streams = self._current_streams()

    def complete_step(self, metrics: BatchMetrics, gradients: Gradients) -> None:
        """Update the parameters, unless a loss or a gradient is not finite: that step is skipped.

        Reads the loss and the norm, which waits for a GPU.

        Raises:
            DivergenceError: ``MOST_SKIPPED`` steps in a row were skipped.
        """
        options = self.options
        warmup = round(options.warmup * options.steps)
        self.rate = linear_schedule(self.step, options.learning_rate, warmup, options.steps)
        fault = ""
        factor: Any = 1.0
        try:
            factor, norm = clipping_factor(gradients, options.max_norm)
            self.norm = float(norm)
            loss = float(metrics.word_loss + metrics.pair_loss)
            if not np.isfinite(loss + self.norm):
                fault = f"a loss of {loss} and a norm of the gradients of {self.norm}"
        except NotFiniteError as error:
            self.norm, fault = float("nan"), str(error)
        # an interrupt in between would leave new moments beside old parameters
        with delay_interrupts():
            self.whole = False
            try:
                if not fault:
                    self.optimizer.step(gradients, self.rate, factor)
                    self.recent.append(metrics)
            except NotFiniteError as error:  # a square of a gradient; nothing was changed
                fault = str(error)
            self.step += 1
            self.skipped += bool(fault)
            self.skipped_in_a_row = self.skipped_in_a_row + 1 if fault else 0
            self._streams = self._current_streams()
            self.whole = True
        if self.skipped_in_a_row >= MOST_SKIPPED:
            raise DivergenceError(
                f"step {self.step}: {MOST_SKIPPED} steps in a row were skipped, because their numbers "
                f"are not finite: {fault}"
            )

    # what a checkpoint holds

    def arrays(self) -> dict[str, np.ndarray]:
        """The moments, on the host, as ``m.NAME`` and ``v.NAME`` for the parameter NAME: the optimizer's
        own arrays, which the next step overwrites."""
        moments = {"m": self.optimizer.m, "v": self.optimizer.v}
        return {f"{k}.{name}": to_host(a) for k, of in moments.items() for name, a in of.items()}

    def numbers(self) -> dict[str, Any]:
        """Counters and random streams, for JSON."""
        counters = {name: getattr(self, name) for name in _COUNTERS}
        recent = [[float(x) for x in metrics] for metrics in self.recent]
        return counters | {
            "updates": self.optimizer.steps,
            "random": self._streams,
            "recent": recent,
        }

    def restore(
        self,
        parameters: Mapping[str, np.ndarray],
        arrays: Mapping[str, np.ndarray],
        numbers: Mapping[str, Any],
    ) -> None:
        """Take the state that a checkpoint holds."""
        xp = self.model.xp
        self.model.parameters = unflatten({n: to_backend(a, xp) for n, a in parameters.items()})
        for k, of in (("m", self.optimizer.m), ("v", self.optimizer.v)):
            of.update({n: to_backend(np.array(arrays[f"{k}.{n}"]), xp) for n in of})
        for name in _COUNTERS:
            setattr(self, name, int(numbers[name]))
        self.optimizer.steps = int(numbers["updates"])
        self.recent.extend(BatchMetrics._make(row) for row in numbers["recent"])
        self._streams = dict(numbers["random"])
        for name, generator in self._generators().items():
            generator.bit_generator.state = self._streams[name]

    def _generators(self) -> dict[str, np.random.Generator]:
        assert self.model._rng is not None  # in train mode
        return {"batches": self.rng, "dropout": self.model._rng}

    def _current_streams(self) -> dict[str, Any]:
        return {name: dict(g.bit_generator.state) for name, g in self._generators().items()}
