"""What the tests of the operations share."""

import pytest

from minizha.backend import get_backend


@pytest.fixture
def xp(backend):
    """The array library under test."""
    return get_backend(backend)
