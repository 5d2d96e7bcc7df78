"""Values as strict JSON can represent them."""

from __future__ import annotations

import math
from typing import Any


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's, tuples as lists.

    Convention: a number that is not finite becomes ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``.
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
