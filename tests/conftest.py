"""One BLAS thread, derandomised hypothesis, and the switch that runs the suite on another backend."""

import os
import signal

# before NumPy is first imported: two BLAS threads on a busy 2-core machine make small products slow
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "minizha",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# the stand-in asks whether CuPy's rules are kept; that the properties hold, NumPy's run has said
settings.register_profile("standin", settings.get_profile("minizha"), max_examples=40)
settings.load_profile("minizha")


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        choices=("numpy", "standin", "cupy"),
        default="numpy",
        help="the array library under test; standin follows CuPy's rules over NumPy",
    )


def pytest_configure(config):
    # a shell script starts what runs in the background with Ctrl-C ignored, and tests send it
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none; nohup ignores it
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_IGN:
        signal.signal(hangup, signal.SIG_DFL)
    if config.getoption("--backend") == "standin":
        from tests.support.standin import install

        install()
        settings.load_profile("standin")


@pytest.fixture
def backend(request):
    """What to pass as ``backend=``: models under test live there."""
    return "numpy" if request.config.getoption("--backend") == "numpy" else "cupy"


@pytest.fixture
def plain_ops(monkeypatch):
    """As if minizha.ops were alone: no kernel replaces anything."""
    from minizha.ops.replaceable import KERNELS

    for key in list(KERNELS):
        monkeypatch.delitem(KERNELS, key)


def pytest_collection_modifyitems(config, items):
    """On another backend, what never touches one would only be run twice."""
    if config.getoption("--backend") == "numpy":
        return
    kept = [item for item in items if "backend" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept
