"""What a run leaves behind to look at: the loss curve as a table and, where possible, a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from minizha.files import write_atomic
from minizha.training.evaluation import Metrics

CURVE_NAME = "loss.csv"
PICTURE_NAME = "loss.png"


class CurvePoint(NamedTuple):
    """Means over the steps since the point before; ``step`` is the last of them."""

    step: int
    metrics: Metrics


def write_curve(folder: Path, curve: list[CurvePoint], held_out: Metrics | None) -> list[Path]:
    """Write ``loss.csv``, and ``loss.png`` where matplotlib is installed; return the paths.

    Raises:
        FileError: a file can't be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *Metrics._fields])
    for point in curve:
        writer.writerow([point.step, *(f"{x:.6g}" for x in point.metrics)])
    write_atomic(folder / CURVE_NAME, text.getvalue().encode("utf-8"))
    picture = _picture(curve, held_out)
    if picture is None:
        return [folder / CURVE_NAME]
    write_atomic(folder / PICTURE_NAME, picture)
    return [folder / CURVE_NAME, folder / PICTURE_NAME]


def _picture(curve: list[CurvePoint], held_out: Metrics | None) -> bytes | None:
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
    for axes, kind, title in ((left, "loss", "loss (nats)"), (right, "accuracy", "accuracy")):
        for name, label, colour in (
            ("word", "masked words", "C0"),
            ("pair", "next sentence", "C1"),
        ):
            values = [getattr(point.metrics, f"{name}_{kind}") for point in curve]
            axes.plot(steps, values, color=colour, label=label)
            if held_out is not None:
                held = getattr(held_out, f"{name}_{kind}")
                axes.plot(steps[-1], held, "o", color=colour, label=f"held out: {held:.3f}")
        axes.set(title=title, xlabel="step")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
