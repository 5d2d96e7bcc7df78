"""Where the repository's folders are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
TUTORIALS = ROOT / "tutorials"
VECTORS = ROOT / "vectors"
V1 = VECTORS / "v1"
