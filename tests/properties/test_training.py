"""Seeds, dropout, dtypes: what repeats exactly, and what must differ."""

import numpy as np

from minizha import NezhaForPreTraining, NezhaModel
from tests.support.assertions import assert_close, assert_equal, differs
from tests.support.running import forward, on_host, run
from tests.support.strategies import CLASSES, cases, holds_for

QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LOUD = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.4}
LONG = {"lengths": range(3, 7), "batches": range(2, 4)}


def set_up(case, backend, dtype="float64"):
    model = case.model(NezhaForPreTraining, backend, dtype)
    return model, case.inputs() | case.labels(NezhaForPreTraining)


@holds_for(cases(**QUIET))
def test_train_mode_without_dropout_is_eval_mode(case, backend):
    model, inputs = set_up(case, backend)
    expected = run(model, inputs)
    assert_equal(run(model.train(seed=case.seed), inputs), expected)


@holds_for(cases(**LOUD))
def test_dropout_acts_in_train_mode_alone(case, backend):
    model, inputs = set_up(case, backend)
    before = forward(model, inputs)
    assert not model.training
    assert model.train(seed=case.seed).training
    forward(model, inputs)
    assert not model.eval().training
    assert_equal(forward(model, inputs), before)


@holds_for(cases(**LOUD, **LONG))
def test_a_seed_repeats_the_dropout_and_another_does_not(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    first = forward(model.train(seed=case.seed), inputs)
    second = forward(model, inputs)
    assert differs(first, second)  # each call draws new factors
    assert_equal(forward(model.train(seed=case.seed), inputs), first)
    assert differs(forward(model.train(seed=case.seed + 1), inputs), first)


@holds_for(cases(**LOUD))
def test_a_seed_repeats_the_gradients_too(case, backend):
    model, inputs = set_up(case, backend)
    first = run(model.train(seed=case.seed), inputs)
    assert_equal(run(model.train(seed=case.seed), inputs), first)


@holds_for(cases(**LOUD))
def test_both_dtypes_see_the_same_dropout(case, backend):
    wide, inputs = set_up(case, backend)
    narrow = wide.astype("float32")
    expected = forward(wide.train(seed=case.seed), inputs)
    found = forward(narrow.train(seed=case.seed), inputs)
    for i in range(case.config.num_hidden_layers):
        name = f"attentions.{i}"
        # a probability that vanishes in float32 is 0 there without having been dropped
        large = np.abs(expected[name]) > 1e-30
        assert ((found[name] == 0) == (expected[name] == 0))[large].all()


@holds_for(cases(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.25, head_masks=("none",)))
def test_attention_is_dropped_whole_or_scaled_up(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    probs = forward(model, inputs)["attentions.0"]
    weights = forward(model.train(seed=case.seed), inputs)["attentions.0"]
    assert_close(weights, np.where(weights == 0, 0.0, probs / 0.75), 1e-15)


@holds_for(cases())
def test_a_seed_makes_the_same_parameters_in_every_dtype(case, backend):
    model_class = case.pick("class", CLASSES)
    wide = model_class(case.config, seed=case.seed, dtype="float64", backend=backend)
    again = model_class(case.config, seed=case.seed, dtype="float64", backend=backend)
    narrow = model_class(case.config, seed=case.seed, dtype="float32", backend=backend)
    other = model_class(case.config, seed=case.seed + 1, dtype="float64", backend=backend)
    arrays = on_host(wide.state_dict())
    assert_equal(on_host(again.state_dict()), arrays)
    rounded = {name: array.astype(np.float32) for name, array in arrays.items()}
    assert_equal(on_host(narrow.state_dict()), rounded)
    assert_equal(on_host(wide.astype("float32").state_dict()), rounded)
    assert differs(on_host(other.state_dict()), arrays)


@holds_for(cases(initializer_range=0.25))
def test_fresh_parameters_are_normal_one_or_zero(case, backend):
    """Matrices spread by initializer_range, biases 0, LayerNorm 1 and 0, pad row 0."""
    config = case.config
    model = NezhaForPreTraining(config, seed=case.seed, dtype="float64", backend=backend)
    for name, array in on_host(model.state_dict()).items():
        if array.ndim == 1:
            assert (array == float(name.endswith("LayerNorm.weight"))).all(), name
            continue
        if name.endswith("word_embeddings.weight") and config.pad_token_id is not None:
            assert (array[config.pad_token_id] == 0).all()
            array = np.delete(array, config.pad_token_id, axis=0)
        assert (array != 0).all(), name
        # six standard errors of a mean and of a mean square
        normal, error = array / 0.25, 6.0 / np.sqrt(array.size)
        assert abs(normal.mean()) <= error, name
        assert abs((normal**2).mean() - 1.0) <= 2.0 * error, name


@holds_for(cases(layer_norm_eps=1e-5))
def test_single_precision_is_close_to_double(case, backend):
    """Within a bound for rounding that a wrong formula exceeds."""
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    wide = forward(model, inputs)
    narrow = forward(model.astype("float32"), inputs)
    assert_close({n: a.astype(np.float64) for n, a in narrow.items()}, wide, 1e-3)


@holds_for(cases())
def test_a_copy_in_the_same_dtype_is_the_same_model_and_shares_no_gradient(case, backend):
    model, inputs = set_up(case, backend)
    expected = run(model, inputs)
    copied = model.astype("float64")
    assert all((array == 0).all() for array in on_host(copied.gradients()).values())
    assert_equal(run(copied, inputs), expected)
