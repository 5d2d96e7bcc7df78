"""What to write in place of functions to which the complex step does not apply."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

REPLACEMENTS = {
    r"\bvar\(": "np.var drops imaginary parts: write the variance as a product, (c * c).mean(…)",
    r"\bstd\(": "np.std drops imaginary parts: write it as a product, ((c * c).mean(…)) ** 0.5",
    r"linalg\.norm": "np.linalg.norm drops imaginary parts: write (x * x).sum(…) ** 0.5",
    r"\babs(olute)?\(": "np.abs drops imaginary parts: write np.where(x > 0, x, -x)",
    r"\berfc?\b": "math.erf takes no complex numbers: minizha.ops.gelu has normal_cdf",
    r"logaddexp": "np.logaddexp takes no complex numbers: write a + log(1 + exp(b − a))",
    r"\b(zeros|empty|ones|full)\(": "a buffer of np.zeros is real: give it the dtype of x",
    r"\bastype\(": "astype(float) drops imaginary parts: leave it out",
    r"\breal\b": ".real drops imaginary parts: leave it out",
    r"\bfloat\(": "float() takes no complex numbers: leave it out",
    r"\bout=": "out= needs an array of the dtype of x",
}
"""By a pattern of source code."""


def replacements(function: Any) -> list[str]:
    """The rows of the table that apply to the source of a function."""
    source = "".join(_sources(function))
    return [text for pattern, text in REPLACEMENTS.items() if re.search(pattern, source)]


def _sources(function: Any) -> Iterator[str]:
    """The source of a function, and of the functions that it calls by name."""
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    known = getattr(function, "__globals__", {})
    for each in (function, *(known[n] for n in names if inspect.isfunction(known.get(n)))):
        try:
            yield inspect.getsource(each)
        except (OSError, TypeError):  # typed at a prompt, or not written in Python
            continue
