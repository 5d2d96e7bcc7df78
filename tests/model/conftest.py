"""What the tests of the classes share."""

import pytest

from tests.support.eight_models import CLASS_NAMES


@pytest.fixture(params=CLASS_NAMES)
def class_name(request):
    return request.param
