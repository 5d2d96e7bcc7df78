"""Negative controls: each mistake must make the properties fail that should find it."""

import numpy as np
import pytest

from minizha import NezhaModel
from minizha.backend import namespace, to_backend
from minizha.checkpoint import safetensors_file
from minizha.model import arguments, base, call, inputs, pretraining
from minizha.nezha import attention as model_attention
from minizha.nezha import body, encoder, heads, losses
from minizha.nezha.parameters import unflatten
from minizha.ops import attention, dropout
from tests.properties import test_heads as of_heads
from tests.properties import test_inputs as of_inputs
from tests.properties import test_losses as of_losses
from tests.properties import test_masking as of_masking
from tests.properties import test_outputs as of_outputs
from tests.properties import test_parameters as of_parameters
from tests.properties import test_relative as of_relative
from tests.properties import test_training as of_training
from tests.support.patching import changed_result
from tests.support.strategies import fails

MISTAKES = []
PARENT = NezhaModel.__base__


def must_fail(*properties):
    """Registers a mistake, a function of ``monkeypatch``, with the properties that must see it."""

    def register(mistake):
        MISTAKES.extend((mistake, test) for test in properties)
        return mistake

    return register


def changed_mask(monkeypatch, change):
    def apply(mask, *_):
        return None if mask is None else change(mask)

    changed_result(monkeypatch, inputs, "_attention_mask", apply)


def changed_table(monkeypatch, change):
    changed_result(monkeypatch, PARENT, "_table", lambda table, *_: change(table))


@must_fail(
    of_masking.test_a_masked_key_gets_exactly_no_attention,
    of_masking.test_padding_changes_nothing_for_the_other_tokens_nor_the_gradients,
    of_masking.test_a_masked_prefix_shifts_all_tokens_and_changes_none,
    of_masking.test_the_ids_under_the_mask_do_not_matter,
    of_masking.test_a_masked_token_gets_no_gradient_from_the_others,
    of_masking.test_a_fully_masked_row_attends_to_all_keys_alike,
)
def a_mask_that_is_not_low_enough(monkeypatch):
    changed_mask(monkeypatch, lambda mask: mask.clip(-3.0, 0.0))


@must_fail(
    of_masking.test_a_masked_key_gets_exactly_no_attention,
    of_masking.test_under_a_triangular_mask_no_token_sees_a_later_one,
)
def a_square_mask_read_as_key_by_query(monkeypatch):
    changed_mask(monkeypatch, lambda mask: mask.swapaxes(-1, -2) if mask.shape[-2] > 1 else mask)


@must_fail(of_masking.test_a_visible_key_gets_some_attention)
def a_mask_that_hides_its_last_key_too(monkeypatch):
    original = inputs._attention_mask

    def wrong(checker, value, shape, past):
        value = np.array(value)
        value[..., -1] = shape[1] == 1
        return original(checker, value, shape, past)

    monkeypatch.setattr(inputs, "_attention_mask", wrong)


@must_fail(of_masking.test_no_mask_is_a_mask_of_ones_in_either_shape)
def a_mask_in_which_one_hides(monkeypatch):
    original = inputs._attention_mask

    def wrong(checker, value, shape, past):
        return original(checker, 1 - np.array(value), shape, past)

    monkeypatch.setattr(inputs, "_attention_mask", wrong)


@must_fail(
    of_relative.test_every_hidden_state_is_that_of_the_plain_reference,
    of_relative.test_the_table_is_the_sinusoid_of_the_shifted_distance,
)
def a_distance_of_the_wrong_sign(monkeypatch):
    changed_table(monkeypatch, lambda table: table[::-1])


@must_fail(of_relative.test_a_distance_that_is_not_beyond_k_is_not_clipped)
def a_table_that_ends_a_row_early(monkeypatch):
    def clip(table):
        table[-1] = table[-2]
        return table

    changed_table(monkeypatch, lambda table: clip(table) if table.shape[0] > 1 else table)


@must_fail(of_relative.test_where_k_is_not_0_order_matters)
def a_table_of_zeros(monkeypatch):
    changed_table(monkeypatch, lambda table: table * 0.0)


@must_fail(
    of_masking.test_a_masked_prefix_shifts_all_tokens_and_changes_none,
    of_relative.test_where_k_is_0_permuted_tokens_give_permuted_outputs,
    of_relative.test_before_attention_no_token_knows_its_place,
    of_outputs.test_hidden_states_run_from_the_embeddings_to_the_last_one,
)
def an_embedding_of_the_absolute_position(monkeypatch):
    def scaled_by_position(result, *_):
        y, cache = result
        ramp = to_backend(np.arange(1.0, y.shape[1] + 1.0), namespace(y))
        return y * ramp[:, None], cache

    changed_result(monkeypatch, body, "embeddings", scaled_by_position)


@must_fail(
    of_heads.test_a_masked_head_is_one_whose_output_columns_are_zero,
    of_heads.test_a_fractional_head_mask_scales_what_the_head_says,
    of_heads.test_a_head_that_is_masked_gets_no_gradient,
)
def a_head_mask_that_is_not_read(monkeypatch):
    changed_result(
        monkeypatch, arguments.ArgumentChecker, "head_masks", lambda masks, *_: (None,) * len(masks)
    )


@must_fail(of_heads.test_the_order_of_the_heads_does_not_matter)
def heads_that_interleave(monkeypatch):
    def split(x, head_size):
        B, L, D = x.shape
        return x.reshape(B, L, head_size, D // head_size).transpose(0, 3, 1, 2)

    monkeypatch.setattr(model_attention, "split_heads", split)


@must_fail(
    of_inputs.test_a_row_of_the_batch_is_the_batch_of_that_row,
    of_inputs.test_gradients_of_the_rows_add_up_to_those_of_the_batch,
)
def an_encoder_that_mixes_the_batch(monkeypatch):
    def mix(result, *_):
        y, cache = result
        return y + y.mean(axis=0, keepdims=True), cache

    changed_result(monkeypatch, encoder, "layer", mix)


@must_fail(of_inputs.test_changing_an_input_after_the_call_does_not_change_the_gradients)
def an_input_that_is_not_copied(monkeypatch):
    def shared(checker, name, value, *_, **__):
        return checker.xp.asarray(value)

    monkeypatch.setattr(arguments.ArgumentChecker, "integers", shared)


@must_fail(of_inputs.test_embeddings_may_come_in_place_of_ids)
def an_embedding_gradient_in_another_order(monkeypatch):
    def turned(d, *_):
        return d._replace(x=d.x[:, ::-1])

    changed_result(monkeypatch, call, "nezha_backward", turned)


@must_fail(of_inputs.test_a_second_backward_adds_the_same_gradients_again)
def gradients_that_replace_each_other(monkeypatch):
    monkeypatch.setattr(base, "add_trees", lambda old, new: new)


@must_fail(of_losses.test_a_tied_gradient_is_the_sum_of_the_two_untied_ones)
def a_decoder_that_forgets_its_gradient(monkeypatch):
    original = heads.vocabulary_matrix

    def wrong(tree):
        matrix = original(tree)  # None at first, in a tree of gradients
        tied = "decoder" not in tree.cls.predictions
        return type(tree)(weight=None) if tied and matrix.weight is None else matrix

    monkeypatch.setattr(heads, "vocabulary_matrix", wrong)


@must_fail(
    of_losses.test_the_loss_is_that_computed_by_hand_from_the_logits,
    of_losses.test_an_example_without_labels_changes_neither_loss_nor_gradients,
)
def a_mean_over_all_places(monkeypatch):
    def diluted(result, *arguments):
        (scores, cache), labels = result, arguments[3]
        if labels is None:
            return scores, cache
        share = (labels.values != -100).sum().item() / labels.values.size
        return scores._replace(loss=scores.loss * share), cache

    changed_result(monkeypatch, pretraining, "masked_words", diluted)


@must_fail(of_losses.test_the_gradient_of_the_loss_is_that_of_all_logits_by_hand)
def a_loss_gradient_without_its_mean(monkeypatch):
    changed_result(
        monkeypatch, losses, "task_loss_backward", lambda d, *_: None if d is None else d * 2.0
    )


@must_fail(of_losses.test_logits_read_late_are_those_of_the_forward_pass)
def logits_of_the_current_parameters(monkeypatch):
    models = []

    def late(result, p, config, hidden, *_):
        def logits():
            return losses.predictions(models[-1].parameters, config, hidden)[0]

        scores, cache = result
        return scores._replace(logits=logits), cache

    original = pretraining.begin
    monkeypatch.setattr(
        pretraining,
        "begin",
        lambda model, *a, **o: models.append(model) or original(model, *a, **o),
    )
    changed_result(monkeypatch, pretraining, "masked_words", late)


@must_fail(of_outputs.test_attention_is_a_distribution_over_the_keys)
def a_softmax_of_another_sum(monkeypatch):
    changed_result(
        monkeypatch, attention, "softmax", lambda result, *_: (result[0] * 1.5, result[1])
    )


@must_fail(of_outputs.test_each_float_dtype_stays_what_it_is)
def a_table_in_double_precision(monkeypatch):
    changed_table(monkeypatch, lambda table: table.astype("float64"))


@must_fail(
    of_training.test_dropout_acts_in_train_mode_alone,
    of_training.test_attention_is_dropped_whole_or_scaled_up,
)
def dropout_in_eval_mode(monkeypatch):
    def always(x, rate, rng):
        return dropout.dropout(x, rate, np.random.default_rng() if rng is None else rng)

    monkeypatch.setattr(attention, "dropout", always)


@must_fail(of_training.test_a_seed_repeats_the_dropout_and_another_does_not)
def dropout_from_the_clock(monkeypatch):
    def unseeded(x, rate, rng):
        return dropout.dropout(x, rate, np.random.default_rng())

    monkeypatch.setattr(attention, "dropout", unseeded)


@must_fail(of_parameters.test_saving_and_loading_is_the_identity)
def a_file_of_the_memory_in_its_layout(monkeypatch):
    # safetensors 0.8 writes the memory as it lies; 0.6 would put the array in order by itself
    def as_it_lies(array):
        return array.ravel(order="K").reshape(array.shape)

    monkeypatch.setattr(safetensors_file, "c_contiguous", as_it_lies)


@must_fail(of_parameters.test_loading_copies_so_that_no_two_models_share_an_array)
def parameters_that_are_not_copied(monkeypatch):
    def share(_, model, arrays, **__):
        model.parameters = unflatten({n: to_backend(a, model.xp) for n, a in arrays.items()})

    changed_result(monkeypatch, PARENT, "load_state_dict", share)


def identify(value):
    return value.__name__


@pytest.mark.parametrize(("mistake", "test"), MISTAKES, ids=identify)
def test_a_mistake_is_seen(mistake, test, backend, monkeypatch):
    if backend != "numpy" and mistake is a_file_of_the_memory_in_its_layout:
        pytest.skip("arrays copied from the device are in plain order")
    mistake(monkeypatch)
    assert fails(test, backend, examples=20)
