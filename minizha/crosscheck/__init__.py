"""Is it right? Checks of gradients, here and for whoever writes a backward pass of their own."""

from minizha.crosscheck.gradcheck import (
    GradientReport,
    check_pair,
    gradcheck,
)

__all__ = ["GradientReport", "check_pair", "gradcheck"]
