"""The harness: ratios, agreement before timing, and processes that take turns."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.cases import CASES, QUICK, SCALING, Case, find, gigaflops, inputs, products
from benchmarks.pairs import (
    Process,
    SideError,
    check_agreement,
    measure,
    pair_ratios,
    save_model,
    summary,
)
from benchmarks.peers import PEERS, SIDES, Minizha, why_not
from minizha.errors import MinizhaError
from tests.support.paths import ROOT

BODY, LOGITS, TRAINING, LOADING = QUICK


def test_the_median_of_ratios_is_of_pairs():
    case = Case("c", "body", 2, 50, 1)
    # the machine is slow in the second round: both sides take ten times as long
    times = {"minizha": [1.0, 10.0, 2.0], "products": [0.5, 5.0, 0.5], "peer": [3.0, 20.0, 2.0]}
    memory = {side: {"before": 10.4, "peak": 30.6, "after": 20.0} for side in times}
    found = summary(case, times, memory, {})
    assert pair_ratios(times["peer"], times["minizha"]) == [3.0, 2.0, 1.0]
    assert found["ratios"] == {"products": 0.5, "peer": 2.0}
    assert found["seconds"] == {"minizha": 2.0, "products": 0.5, "peer": 3.0}
    assert found["tokens_per_second"] == 50  # 100 in the median of 2 seconds
    assert found["memory"] == {
        s: {"before": 10, "peak": 31, "after": 20} for s in ("minizha", "peer")
    }


def test_a_side_that_failed_has_no_figures():
    case = Case("c", "body", 1, 1, 1)
    found = summary(
        case, {"minizha": [1.0], "peer": [None]}, {"minizha": {"peak": None}}, {"peer": "why"}
    )
    assert found["failed"] == {"peer": "why"}
    assert found["ratios"] == {}
    assert found["memory"] == {"minizha": {"peak": None}}
    with pytest.raises(ValueError, match="argument"):
        pair_ratios([1.0], [1.0, 2.0])


def test_the_products_are_counted():
    case = Case("c", "body", 2, 10, 3)
    D, F, N, K, d, T = 768, 3072, 12, 64, 64, 20
    linear = 3 * T * (4 * D * D + 2 * D * F)
    attention = 3 * 2 * N * 10 * (2 * 10 * d + 2 * (2 * K + 1) * d)
    assert gigaflops(case) == pytest.approx(2 * (linear + attention + 2 * D * D) / 1e9)
    logits = case._replace(task="logits")
    assert gigaflops(logits) - gigaflops(case) == pytest.approx(2 * T * (D * D + D * 21128) / 1e9)
    assert products(LOADING) == []


def test_a_backward_pass_has_two_products_for_each_of_the_forward_pass():
    labelled = int((inputs(TRAINING)["labels"] >= 0).sum())
    forward = products(TRAINING)[:10]
    assert {p.m for p in forward[-2:]} == {labelled}
    flops = sum(p.flops for p in forward)
    table = sum(p.flops for p in forward[5:7])  # the table of relative positions has no gradient
    assert sum(p.flops for p in products(TRAINING)) == 3 * flops - table


def test_names_are_one_for_one_and_found():
    every = [*CASES, *QUICK, *(case for series in SCALING.values() for case in series)]
    assert len({case.name for case in every}) == len(every)
    assert all(find(case.name) is case for case in every)
    for case in CASES:  # the name says the sizes
        if case.task != "loading" and case.name != "training-small":
            assert f"{case.task}-{case.B}x{case.L}" in case.name
            assert (case.layers == 4) != case.name.endswith(f"{case.layers}-layers")


# --- agreement -----------------------------------------------------------------------------------


@pytest.fixture(params=QUICK, ids=lambda case: case.task)
def case_and_results(request, tmp_path):
    save_model(request.param, str(tmp_path))
    return request.param, Minizha(request.param, str(tmp_path), 1).results(), tmp_path


def test_equal_results_agree_and_a_step_can_be_repeated(case_and_results):
    case, ours, folder = case_and_results
    side = Minizha(case, str(folder), 1)
    side.run()  # as after the measurement of memory
    check_agreement(case, "again", ours, side.results())


def test_every_array_of_a_wrong_peer_is_refused(case_and_results):
    case, ours, _ = case_and_results
    for name in ours:
        part = 0.9 if name == "change" else 0.99
        if not np.any(ours[name]) or negligible(ours, name):
            continue  # a factor changes nothing
        with pytest.raises(MinizhaError, match="differ by"):
            check_agreement(case, "wrong", ours, ours | {name: ours[name] * part})
        with pytest.raises(MinizhaError, match="differ by nan"):
            check_agreement(case, "wrong", ours, ours | {name: ours[name] * np.nan})
        with pytest.raises(MinizhaError, match=f"wrong has {name}"):
            check_agreement(case, "wrong", ours, {n: a for n, a in ours.items() if n != name})
        with pytest.raises(MinizhaError, match="minizha has"):
            check_agreement(case, "wrong", ours, ours | {name: ours[name][None]})


def negligible(ours, name):
    """The gradient of a key's bias is 0 but for rounding."""
    norms = {n: np.linalg.norm(a) for n, a in ours.items() if n.startswith("gradient")}
    return name in norms and norms[name] < 0.01 * max(norms.values())


def test_a_peer_that_ignores_an_input_is_refused(tmp_path):
    for case in (BODY, LOGITS, TRAINING):
        save_model(case, str(tmp_path))
        right, wrong = (Minizha(case, str(tmp_path), 1) for _ in range(2))
        wrong.batch["token_type_ids"] = np.zeros_like(wrong.batch["token_type_ids"])
        with pytest.raises(MinizhaError, match="differ by"):
            check_agreement(case, "wrong", right.results(), wrong.results())


# --- processes -----------------------------------------------------------------------------------


def test_two_sides_take_turns():
    shown = []
    found = measure(BODY, ["minizha", "products"], 2, 1, shown.append)
    assert shown == ["minizha", "products"] * 3  # the start, then two rounds
    assert [len(times) for times in found["rounds"].values()] == [2, 2]
    assert 0 < found["ratios"]["products"] < 1
    if sys.platform == "linux":
        assert found["memory"]["minizha"]["peak"] >= found["memory"]["minizha"]["before"] > 10


def test_a_side_that_cannot_begin_says_why_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.pairs.save_model", lambda case, folder: None)  # no weights
    with pytest.raises(SideError, match=r"^minizha: "):
        measure(BODY, ["minizha"], 1, 1)
    found = measure(BODY, ["products", "minizha"], 1, 1)
    assert "config.json" in found["failed"]["minizha"]
    assert found["seconds"].keys() == {"products"}


def test_what_a_process_dies_of_is_one_line(tmp_path):
    with contextlib.closing(Process("no side", BODY, str(tmp_path), 1)) as process:
        with pytest.raises(SideError, match="no side: KeyError: 'no side'"):
            process.ready()
    with contextlib.closing(Process("products", BODY, str(tmp_path), 1)) as process:
        process.ready().process.kill()
        with pytest.raises(SideError, match="products: exit status -9"):
            process.ask("run", 1)


def test_running_out_of_memory_is_said(tmp_path):
    code = (
        "import numpy, sys; from benchmarks import side\n"
        "class Large:\n    def run(self): numpy.ones(10**15)\n"
        "side.answer(sys.stdout, lambda: side.run(Large(), '1'))\n"
        "side.answer(sys.stdout, lambda: 1 / 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        '{"error": "out of memory"}',
        '{"error": "ZeroDivisionError: division by zero"}',
    ]


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
    assert why_not("transformers", BODY) == 'torch not installed: pip install -e ".[peers]"'
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert why_not("transformers", BODY) is None
    assert why_not("torch.compile", BODY) == "needs a C++ compiler"
    assert why_not("onnxruntime", TRAINING) == "runs forward passes only"
    assert why_not("products", LOADING) == "has nothing to load"
    assert set(SIDES) == {"minizha", "products", *PEERS}


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.task)
def test_transformers_computes_the_same(case):
    pytest.importorskip("torch", reason="the peers extra is not installed")
    pytest.importorskip("transformers", reason="the peers extra is not installed")
    found = measure(case, ["minizha", "transformers"], 1, 1)
    assert found["ratios"].keys() == {"transformers"}
