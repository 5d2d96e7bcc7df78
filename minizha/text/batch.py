"""What the tokenizer returns: a dict of arrays whose keys are attributes too."""

from __future__ import annotations

from typing import Any


class Batch(dict[str, Any]):
    """``batch["input_ids"]`` is ``batch.input_ids``; ``model(**batch)`` takes it as it is.

    Convention: setting or deleting an attribute sets or deletes the key, so that the two never
    differ. A key with the name of a dict method is not an attribute.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"no {name!r} in this batch, which has {', '.join(self)}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(
                f"no {name!r} in this batch, which has {', '.join(self)}"
            ) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def copy(self) -> Batch:
        """A Batch of the same arrays, where dict.copy would give a dict."""
        return Batch(self)

    def __repr__(self) -> str:
        return f"Batch({super().__repr__()})"
