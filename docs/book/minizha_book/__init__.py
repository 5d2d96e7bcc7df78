"""The engine of the book: what its pages need beyond Sphinx and MyST-NB.

============  =====================================================================================
proofs        ``proves(label, left, right)`` in an executed cell proves an equation of the page
source        ``{source} module.function`` shows code by its name
exercises     ``{exercise-check} 5.2`` shows an exercise that the browser checks
glossary      ``{terms}``: one Chinese term for each English one
widgets       ``{widget} name`` is a picture that the reader moves
pictures      figures are drawn as SVG in the page's colours, and need alternative text
links         links to files of the repository lead to pages with their text
languages     the switch between English and Chinese, and the few words that the engine adds
translations  the Chinese pages are whole
mathematics   formulas are plain LaTeX, and a fault in one of them fails the build
tutorials     each tutorial can be downloaded as a notebook
api           what docstrings name leads to its documentation or its source
theme         the theme, made small
============  =====================================================================================

Every warning fails the build, so a check is a warning with the place and what is wrong.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

PARTS = (
    "mathematics", "proofs", "source", "exercises", "glossary", "pictures", "widgets", "links",
    "languages", "theme", "api", "translations", "tutorials",
)  # fmt: skip


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this once; each part registers what it adds."""
    for part in PARTS:
        app.setup_extension(f"minizha_book.{part}")
    own = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    version = zlib.crc32(own) + 1  # a change of the engine reads every page again
    return {"env_version": version, "parallel_read_safe": False, "parallel_write_safe": True}
