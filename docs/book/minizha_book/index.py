"""Words that a reader may look for and that no title of the page says enter the index and the search."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

WORDS = {
    "docs/book/02_exact_derivatives": {
        "en": ("finite difference", "difference quotient"),
        "zh": ("有限差分", "差商"),
    },
    "docs/book/01_linear_maps": {"en": ("Jacobian matrix",), "zh": ("雅可比矩阵",)},
    "docs/book/04_softmax_and_losses": {"en": ("cross-entropy",), "zh": ("交叉熵",)},
    "docs/reference/adapters": {
        "en": ("bert4torch", "PyTorch", "PaddleNLP", "TensorFlow", "JAX"),
        "zh": ("bert4torch", "PyTorch", "PaddleNLP", "TensorFlow", "JAX"),
    },
    "docs/book/06_gelu_and_dropout": {
        "en": ("activation function", "dropout"),
        "zh": ("激活函数", "随机失活"),
    },
    "docs/reference/mistakes": {"en": ("known mistakes",), "zh": ("已知错误",)},
    "docs/reference/gpu": {"en": ("CuPy", "CUDA"), "zh": ("CuPy", "CUDA", "显卡")},
}
"""{page: {language: words}}"""


class Index(SphinxTransform):
    """Put the words of a page at its title."""

    default_priority = 50

    def apply(self, **options: Any) -> None:
        """The search shows such a page first."""
        language = "zh" if self.config.language.startswith("zh") else "en"
        words = WORDS.get(self.env.docname, {}).get(language, ())
        section = next(self.document.findall(nodes.section), None)
        if words and section is not None:
            place = section["ids"][0]
            entries = [("single", text, place, "main", None) for text in words]
            section.insert(1, addnodes.index(entries=entries))


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.add_transform(Index)
