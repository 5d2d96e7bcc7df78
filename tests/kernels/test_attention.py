"""The kernel of attention next to the plain pair: tiles of all sizes, masks of all shapes, dropout."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minizha.kernels
from minizha.kernels import attention_backward as backward_module
from minizha.kernels import attention_tile
from minizha.ops.attention import AttentionCache, attention, attention_backward, head_mask_gradient
from minizha.ops.relative_position import relative_table
from minizha.ops.replaceable import KERNELS, Needed, caches_needed_for
from minizha.training.row_generators import RowGenerators
from tests.support.kernel_cases import BOUND, shared
from tests.support.memory import peak_of
from tests.support.op_cases import draw_case, leaves

assert minizha.kernels
KERNEL = KERNELS["attention", "numpy"]
assert KERNEL.backward is backward_module.attention_backward
SHAPES = [  # B, N, Lq, Lk, d, K, offset
    (2, 3, 20, 20, 8, 64, 0),
    (2, 3, 20, 20, 8, 4, 0),
    (2, 2, 9, 12, 8, 3, 3),  # exponentials are kept, if the keys are in one block
    (1, 2, 61, 61, 16, 7, 0),
    (2, 2, 5, 33, 8, 6, 28),  # a decoder with a past
    (1, 1, 1, 40, 4, 3, 39),
    (1, 2, 40, 17, 4, 3, 0),  # cross-attention
    (1, 1, 40, 9, 4, 2, 200),  # all keys lie far before the queries
    (3, 1, 7, 1, 2, 1, 0),
    (2, 5, 1, 1, 2, 0, 0),
]
TILES = [(128, 512, 65536), (16, 24, 65536), (7, 5, 1), (4, 4, 100), (1, 1, 1)]
MASKS = ["none", "keys", "causal", "full", "one head", "each", "all keys"]


@pytest.fixture(params=TILES, ids=str)
def tiles(request, monkeypatch):
    """Tiles with so many queries and keys, and about so many numbers."""
    for name, size in zip(("QUERIES", "KEYS", "NUMBERS"), request.param, strict=True):
        monkeypatch.setattr(attention_tile, name, size)


def arguments(shape, mask, dtype, seed=0):
    """Query, key, value, upstream gradient, and keywords. Heads lie side by side, as the model's do."""
    (B, N, Lq, Lk, d, K, offset), rng = shape, np.random.default_rng(seed)
    low = np.finfo(dtype).min
    arrays = [
        rng.standard_normal((B, L, N, d)).astype(dtype).swapaxes(1, 2) for L in (Lq, Lk, Lk, Lq)
    ]
    hidden = {
        "none": None,
        "keys": rng.random((B, 1, 1, Lk)) < 0.4,
        "causal": ~np.tri(Lq, Lk, offset, dtype=bool)[None, None],
        "full": rng.random((B, 1, Lq, Lk)) < 0.5,
        "one head": rng.random((N, 1, Lk)) < 0.5,
        "each": rng.random((B, N, Lq, Lk)) < 0.9,  # many rows are wholly masked
        "all keys": np.ones((Lk,), bool),
    }[mask]
    keywords = {"table": relative_table(K, d).astype(dtype), "offset": offset}
    if hidden is not None:
        keywords["mask"] = np.where(hidden, low, 0).astype(dtype)
    return arrays, keywords


def both(pair, arrays, keywords, rng=None, rate=0.0):
    """Context and gradients of a pair."""
    *inputs, dcontext = arrays
    context, cache = pair.forward(*inputs, **keywords, dropout_rate=rate, rng=rng)
    return context, *pair.backward(dcontext, cache)


PLAIN = SimpleNamespace(forward=attention.plain, backward=attention_backward.plain)


def difference(found, right):
    """The largest difference, relative to the largest number of each array."""
    worst = 0.0
    for ours, theirs in zip(found, right, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        scale = max(1.0, np.abs(theirs).max(initial=0.0))
        worst = max(worst, np.abs(ours - theirs).max(initial=0.0) / scale)
    return worst


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_computes_what_the_plain_pair_computes(tiles, shape, dtype):
    for mask in MASKS:
        given = arguments(shape, mask, dtype)
        assert difference(both(KERNEL, *given), both(PLAIN, *given)) <= BOUND[dtype], mask


@pytest.mark.parametrize("kind", [np.random.default_rng, RowGenerators])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dropout_draws_the_same_numbers(tiles, shape, kind):
    for mask, rate in (("none", 0.1), ("each", 0.7)):
        given, ours, theirs = arguments(shape, mask, "float64"), kind(5), kind(5)
        assert (
            difference(both(KERNEL, *given, ours, rate), both(PLAIN, *given, theirs, rate)) < 1e-14
        )
        assert (ours.random((3, 1), np.float32) == theirs.random((3, 1), np.float32)).all()


@settings(max_examples=100)
@given(data=st.data(), dtype=st.sampled_from(list(BOUND)))
def test_any_case_without_a_head_mask(data, dtype):
    case = draw_case(data.draw, "attention").on(np, dtype)
    case.constants.pop("head_mask", None)
    keywords = dict(case.constants)
    rate = keywords.pop("dropout_rate")
    arrays = [*case.values, np.random.default_rng(1).standard_normal(case.values[0].shape)]
    arrays[-1] = arrays[-1].astype(dtype)
    found, right = (
        both(pair, arrays, keywords, np.random.default_rng(3), rate) for pair in (KERNEL, PLAIN)
    )
    assert difference(found, right) <= 2 * BOUND[dtype]


def test_one_core_and_two_compute_the_same_bits(tiles):
    given = arguments((3, 4, 37, 37, 8, 5, 0), "keys", "float32")
    with shared(1):
        one = both(KERNEL, *given, RowGenerators(1), 0.2)
    with shared(2):
        two = both(KERNEL, *given, RowGenerators(1), 0.2)
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


def test_nothing_is_mutated_and_backward_may_be_called_twice(tiles, monkeypatch):
    (*inputs, dcontext), keywords = arguments((2, 3, 9, 9, 8, 5, 0), "full", "float32")
    for kept in (0, 2):  # exponentials are computed again, or kept
        monkeypatch.setattr(attention_tile, "KEPT", kept)
        context, cache = KERNEL.forward(*inputs, **keywords)
        assert (cache.exponentials is not None) == (kept > 0 and attention_tile.KEYS >= 9)
        arrays = list(leaves((inputs, dcontext, context, cache)))
        before = [array.copy() for array in arrays]
        first, second = (KERNEL.backward(dcontext, cache) for _ in range(2))
        assert all((a == b).all() for a, b in zip(first, second, strict=True))
        assert all((a == b).all() for a, b in zip(arrays, before, strict=True))


def test_large_scores_do_not_overflow():
    (query, key, value, _), keywords = arguments((1, 1, 6, 9, 4, 2, 3), "none", "float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_tile, "KEYS", 2)  # the largest score so far rises block by block
        found, _ = KERNEL.forward(1e4 * query, key, value, **keywords)
    right, _ = attention.plain(1e4 * query, key, value, **keywords)
    assert difference([found], [right]) < 1e-5


# --- when it is taken -----------------------------------------------------------------------------


def cache_type(needed, **options):
    (query, key, value, _), keywords = arguments((1, 2, 4, 4, 4, 2, 0), "none", "float32")
    with caches_needed_for(needed):
        return type(attention(query, key, value, **keywords, **options)[1])


def test_the_plain_operation_runs_where_the_kernel_makes_less_than_is_needed():
    head_mask = np.ones((1, 2, 1, 1), np.float32)
    for needed in (Needed.NOTHING, Needed.BACKWARD):
        assert cache_type(needed) is KERNEL.cache
        assert cache_type(needed, head_mask=head_mask) is AttentionCache
    assert cache_type(Needed.EVERYTHING) is AttentionCache


def test_the_cache_has_the_fields_that_modules_read():
    (query, key, value, dcontext), keywords = arguments((1, 2, 4, 4, 4, 2, 0), "none", "float32")
    _, cache = KERNEL.forward(query, key, value, **keywords)
    assert cache.key is key
    assert cache.value is value
    assert head_mask_gradient(dcontext, cache) is None


def test_memory_is_linear_in_the_number_of_tokens():
    def peak(L):
        (*inputs, dcontext), keywords = arguments((1, 2, L, L, 8, 4, 0), "none", "float32")

        def step():
            KERNEL.backward(dcontext, KERNEL.forward(*inputs, **keywords)[1])

        step()
        return peak_of(step)

    short, long = peak(512), peak(2048)
    assert long - short < 4 * short  # a tile, and what is linear
    assert long < 2048 * 2048 * 4 / 2  # less than the scores of one head, of two


# --- a wrong kernel is seen -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": 1},
        {"factor": 1.5},
        {"largest": 0.1},
        {"inverse_sum": 0.1},
        {"context": 0.1},
    ],
    ids=str,
)
def test_a_wrong_cache_is_seen(wrong):
    (*inputs, dcontext), keywords = arguments((1, 2, 6, 6, 8, 3, 0), "none", "float64")
    rng = np.random.default_rng(0)
    with caches_needed_for(Needed.BACKWARD), pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_tile, "KEPT", 0)
        _, cache = KERNEL.forward(*inputs, **keywords, dropout_rate=0.5, rng=rng)
    right = KERNEL.backward(dcontext, cache)
    ((field, error),) = wrong.items()
    found = KERNEL.backward(dcontext, cache._replace(**{field: getattr(cache, field) + error}))
    assert difference(found, right) > 1e-3
