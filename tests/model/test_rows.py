"""Rows dealt to threads: the same outputs as for the whole batch, and when it is done."""

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForMaskedLM, NezhaModel
from minizha.kernels import cores
from minizha.model import call, rows
from minizha.model.rows import number_of_parts
from tests.support.kernel_cases import shared
from tests.support.op_cases import leaves

pytestmark = pytest.mark.skipif(cores._set_threads is None, reason="BLAS is not OpenBLAS: one core")

CONFIG = NezhaConfig(
    vocab_size=19,
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=11,
    max_relative_position=2,
)
DECODER = CONFIG.replace(is_decoder=True, add_cross_attention=True)
RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 19, (6, 5))
SEEN = (RNG.random((6, 5)) < 0.8).astype(int)
STATES = RNG.standard_normal((6, 4, 12))


@pytest.fixture
def dealt(monkeypatch):
    """How many parts each call had; two cores, and nothing is too small."""
    found = []

    def counted(*arguments):
        found.append(arguments[-1])
        return rows.nezha_by_rows(*arguments)

    monkeypatch.setattr(call, "nezha_by_rows", counted)
    monkeypatch.setattr(rows, "LEAST", 1)
    with shared(2):
        yield found


CASES = [
    (CONFIG, {}),
    (CONFIG, {"attention_mask": SEEN, "token_type_ids": IDS % 2}),
    (CONFIG, {"attention_mask": np.tril(np.ones((6, 5, 5), int))}),
    (CONFIG, {"head_mask": [1.0, 0.0, 0.5], "output_hidden_states": True}),
    (DECODER, {"use_cache": True, "encoder_hidden_states": STATES}),
    (DECODER, {"encoder_hidden_states": STATES, "encoder_attention_mask": SEEN[:, :4]}),
]


@pytest.mark.parametrize(("config", "options"), CASES)
def test_the_outputs_are_those_of_the_whole_batch(config, options, dealt):
    model = NezhaModel(config, dtype="float64")
    found = list(leaves(model(IDS, **options).to_tuple()))
    assert dealt == [2]
    with shared(1):
        right = list(leaves(model(IDS, **options).to_tuple()))
    assert dealt == [2]
    assert len(found) == len(right) > 1
    for a, b in zip(found, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_a_past_is_dealt_too(dealt):
    model = NezhaModel(DECODER, dtype="float64")
    past = model(IDS[:, :3], use_cache=True).past_key_values
    rest = model(IDS[:, 3:], past_key_values=past).last_hidden_state
    assert dealt == [2, 2]
    whole = model(IDS).last_hidden_state
    np.testing.assert_allclose(rest, whole[:, 3:], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, [2]),
        ({"labels": IDS}, []),
        ({"record": True}, []),
        ({"output_attentions": True}, []),
        ({"labels": IDS, "record": False}, [2]),
    ],
)
def test_rows_are_dealt_where_nothing_is_recorded(options, parts, dealt):
    model = NezhaForMaskedLM(CONFIG)
    model(IDS, **options)
    assert dealt == parts
    dealt.clear()
    model.train(seed=0)(IDS, **options)  # dropout draws one stream for all rows
    assert dealt == []


@pytest.mark.parametrize(
    ("B", "L", "D", "threads", "parts"),
    [
        (8, 128, 768, 2, 2),
        (2, 512, 768, 2, 2),
        (1, 2048, 768, 2, 1),
        (2, 16, 768, 2, 1),  # too small
        (3, 512, 768, 2, 1),  # 1 and 2 rows
        (21, 128, 768, 2, 2),  # 10 and 11
        (8, 128, 768, 4, 4),
        (8, 128, 768, 1, 1),
        (0, 5, 768, 2, 1),
    ],
)
def test_the_rule(B, L, D, threads, parts):
    with shared(threads):
        assert number_of_parts(B, L, D) == parts
