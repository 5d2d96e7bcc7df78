"""The loss curve of a run: a table and, if matplotlib is installed, a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from minizha.files import write_atomic
from minizha.training.evaluation import Metrics

CURVE_NAME = "loss.csv"
HELD_OUT_NAME = "held_out.csv"
PICTURE_NAME = "loss.png"


class CurvePoint(NamedTuple):
    """The means over the steps since the previous point; ``step`` is the last of them."""

    step: int
    metrics: Metrics


def write_curve(
    folder: Path, curve: list[CurvePoint], points: list[CurvePoint], held_out: Metrics | None
) -> list[Path]:
    """Write ``loss.csv``, ``held_out.csv``, and ``loss.png`` if matplotlib is installed; return the
    paths.

    Args:
        curve: means over the training.
        points: the metrics of the held-out sample along the way.
        held_out: those of all held-out examples at the end, if it came to that.

    Raises:
        FileError: a file can't be written.
    """
    files = {CURVE_NAME: _table(curve), HELD_OUT_NAME: _table(points)}
    picture = _picture(curve, points, held_out)
    if picture is not None:
        files[PICTURE_NAME] = picture
    for name, data in files.items():
        write_atomic(folder / name, data)
    return [folder / name for name in files]


def _table(points: list[CurvePoint]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *Metrics._fields])
    for point in points:
        writer.writerow([point.step, *(f"{x:.6g}" for x in point.metrics)])
    return text.getvalue().encode("utf-8")


def _picture(
    curve: list[CurvePoint], points: list[CurvePoint], held_out: Metrics | None
) -> bytes | None:
    if not curve:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = [point.step for point in curve]
    for axes, quantity, title in ((left, "loss", "loss (nats)"), (right, "accuracy", "accuracy")):
        for name, label, colour in (
            ("word", "masked words", "C0"),
            ("pair", "next sentence", "C1"),
        ):
            values = [getattr(point.metrics, f"{name}_{quantity}") for point in curve]
            axes.plot(steps, values, color=colour, label=label)
            along = [getattr(point.metrics, f"{name}_{quantity}") for point in points]
            axes.plot([p.step for p in points], along, "x", color=colour, label="held-out sample")
            if held_out is not None:
                value = getattr(held_out, f"{name}_{quantity}")
                axes.plot(steps[-1], value, "o", color=colour, label=f"held out: {value:.3f}")
        axes.set(title=title, xlabel="step")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
