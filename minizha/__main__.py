"""``python -m minizha`` is the command ``minizha``."""

import sys

from minizha.cli import main

if __name__ == "__main__":
    sys.exit(main())
