"""Each row of a batch has its own dropout, whichever process or micro-batch computes it."""

import numpy as np
import pytest

from minizha import NezhaForPreTraining
from minizha.backend import get_backend, to_host
from minizha.ops.dropout import dropout
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import new_model, prepare, train
from minizha.training.row_generators import RowGenerators, row_generators
from minizha.training.step import items_in, loss_and_gradients, sum_parts
from tests.support.short_runs import DOCUMENT
from tests.training.test_step import CONFIG, assert_agree, make_batch

DROPPING = CONFIG.replace(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)


def test_a_part_draws_what_the_whole_batch_draws_for_its_rows():
    whole, middle = RowGenerators(5), RowGenerators(5).part(2)
    for shape in ((6, 3, 4), (6, 2)):  # one call after the other, as in the layers
        expected = whole.random(shape, np.float32)
        found = middle.random((3, *shape[1:]), np.float32)
        assert found.dtype == np.float32
        assert np.array_equal(found, expected[2:5])
    assert np.array_equal(
        RowGenerators(5).part(2).part(1).random((1, 9), np.float32),
        RowGenerators(5).random((4, 9), np.float32)[3:],
    )


def test_rows_calls_and_batches_draw_differently():
    generators = RowGenerators(5)
    first, second = (generators.random((4, 50), np.float32) for _ in range(2))
    other = RowGenerators(6).random((4, 50), np.float32)
    rows = np.concatenate([first, second, other])
    assert len(np.unique(rows)) > 0.99 * rows.size
    assert abs(rows.mean() - 0.5) < 0.06


def test_every_dtype_and_library_has_the_same_factors(backend):
    factors = [
        to_host(dropout(library.ones((5, 40), dtype=dtype), 0.3, RowGenerators(5))[0]) != 0
        for library in (np, get_backend(backend))
        for dtype in ("float32", "float64")
    ]
    assert all(np.array_equal(each, factors[0]) for each in factors)


def test_the_seed_of_a_batch_follows_from_train():
    model = NezhaForPreTraining(DROPPING)
    assert row_generators(model) is None
    first, second = (row_generators(model.train(seed)).seed for seed in (3, 3))
    assert first == second != row_generators(model).seed
    assert first != row_generators(model.train(4)).seed
    assert row_generators(model.eval()) is None


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_parts_of_a_batch_add_up_to_it_with_dropout(dtype, backend):
    model = NezhaForPreTraining(DROPPING, dtype=dtype, backend=backend)
    batch = make_batch(np.random.default_rng(1), uneven=True)
    expected = loss_and_gradients(model.train(seed=8), batch)
    items, generators = items_in(batch), row_generators(model.train(seed=8))
    parts = [
        ({name: a[start:stop] for name, a in batch.items()}, generators.part(start))
        for start, stop in ((0, 1), (1, 4), (4, 6))
    ]
    found = sum_parts([loss_and_gradients(model, part, items, rows) for part, rows in parts])
    host = [
        (metrics, {n: to_host(g) for n, g in grads.items()}) for metrics, grads in (found, expected)
    ]
    assert_agree(*host, 1e-13 if dtype == "float64" else 1e-5)
    # negative control: parts with generators of their own have another gradient
    own = sum_parts([loss_and_gradients(model, part, items) for part, _ in parts])
    assert abs(float(own[0].word_loss) - float(expected[0].word_loss)) > 1e-3


OPTIONS = PretrainOptions(
    steps=20,
    hidden_size=8,
    layers=2,
    heads=2,
    intermediate_size=8,
    length=16,
    batch_size=7,
    held_out=3,
    min_count=1,
    dropout=0.1,
)


def trained(data, workers):
    """Losses and parameters in float64, and those parameters whose gradient is not 0 in theory."""
    model = new_model(data, OPTIONS).astype("float64")
    losses = [float(m.word_loss + m.pair_loss) for m in train(model, data, OPTIONS, workers)]
    return losses, {n: p for n, p in model.state_dict().items() if not n.endswith("key.bias")}


def test_processes_change_nothing_with_dropout(tmp_path, monkeypatch):
    """Seven rows: parts of 7, of 4 and 3, and of 3, 2 and 2 rows."""
    (tmp_path / "corpus.txt").write_text(DOCUMENT * 6, "utf-8")
    data = prepare(tmp_path / "corpus.txt", OPTIONS)
    losses, parameters = trained(data, 1)
    assert len(losses) == 20
    for workers in (2, 3):
        found, others = trained(data, workers)
        assert np.abs(np.subtract(found, losses)).max() <= 1e-12
        difference = max(np.abs(others[name] - p).max() for name, p in parameters.items())
        assert difference <= 1e-12
    # negative control: the second process begins at row 0 again
    monkeypatch.setattr(RowGenerators, "part", lambda self, _: RowGenerators(self.seed))
    found, _ = trained(data, 2)
    assert np.abs(np.subtract(found, losses)).max() > 1e-6
