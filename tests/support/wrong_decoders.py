"""Mistakes that only a decoder can have; each is a function of ``monkeypatch`` that makes it.

The first half change the forward pass, the second half the backward pass alone.
"""

from types import SimpleNamespace

import numpy as np

from minizha.backend import namespace
from minizha.model import call, inputs
from minizha.nezha import attention as blocks
from minizha.nezha import body, encoder, feed_forward
from minizha.nezha.attention import KeysAndValues
from minizha.ops import attention
from minizha.ops.softmax import SoftmaxCache
from tests.support.patching import changed_result, replaced


def changed_layers(monkeypatch, change):
    """What each layer reads goes through ``change(layer)``."""
    changed_result(
        monkeypatch,
        call,
        "read_inputs",
        lambda found, *_: found._replace(layers=tuple(map(change, found.layers))),
    )


def in_both(layer, **changes):
    """What a layer reads, with the same change in self- and in cross-attention."""
    return changed_cross(layer._replace(attention=layer.attention._replace(**changes)), **changes)


def changed_cross(layer, **changes):
    cross = layer.crossattention
    return layer if cross is None else layer._replace(crossattention=cross._replace(**changes))


def zeros_like_all(arrays):
    return None if arrays is None else KeysAndValues(*(0.0 * a for a in arrays))


# --- forward --------------------------------------------------------------------------------------


def positions_that_start_anew_in_each_call(monkeypatch):
    changed_layers(monkeypatch, lambda layer: in_both(layer, offset=0))


def cross_attention_from_the_start_in_each_call(monkeypatch):
    def wrong(right):
        def attention_block(p, config, x, source, inputs, rng):
            inputs = inputs if source is x else inputs._replace(offset=0)
            return right(p, config, x, source, inputs, rng)

        return attention_block

    replaced(monkeypatch, encoder, "attention_block", wrong)


def with_triangle(monkeypatch, tri):
    monkeypatch.setattr(inputs, "np", SimpleNamespace(**(vars(np) | {"tri": tri})))


def a_triangle_that_forgets_the_past(monkeypatch):
    with_triangle(monkeypatch, lambda L, keys, past: np.tri(L, keys))


def a_decoder_that_looks_ahead(monkeypatch):
    with_triangle(monkeypatch, lambda L, keys, past: np.ones((L, keys)))


def a_decoder_that_looks_one_ahead(monkeypatch):
    with_triangle(monkeypatch, lambda L, keys, past: np.tri(L, keys, past + 1))


def a_decoder_that_does_not_see_itself(monkeypatch):
    with_triangle(monkeypatch, lambda L, keys, past: np.tri(L, keys, past - 1))


def a_mask_that_is_not_low_enough(monkeypatch):
    def clipped(mask, *_):
        return None if mask is None else mask.clip(-3.0, 0.0)

    changed_result(monkeypatch, inputs.ArgumentChecker, "additive_mask", clipped)


def the_encoders_mask_forgotten(monkeypatch):
    changed_layers(monkeypatch, lambda layer: changed_cross(layer, mask=None))


def the_encoders_mask_forgotten_once_its_keys_are_cached(monkeypatch):
    def change(layer):
        cross = layer.crossattention
        return changed_cross(layer, mask=None) if cross and cross.past is not None else layer

    changed_layers(monkeypatch, change)


def a_cache_of_the_new_tokens_alone(monkeypatch):
    def cut(keys_and_values, cache):
        past = cache.attention.self.past_length or 0
        return (*(array[:, :, past:] for array in keys_and_values[:2]), *keys_and_values[2:])

    changed_result(monkeypatch, encoder, "keys_and_values", cut)


def the_head_mask_of_the_wrong_heads(monkeypatch):
    """The first columns of the mask, as many as heads are left, not those of the unpruned heads."""

    def first(left, checker, head_mask, layer):
        return head_mask[:, : left.shape[1]]

    changed_result(monkeypatch, inputs, "_unpruned", first)


def values_cached_as_keys(monkeypatch):
    changed_result(monkeypatch, encoder, "keys_and_values", lambda kv, _: (kv[1], kv[0], *kv[2:]))


def new_keys_before_the_past(monkeypatch):
    def reversed_(arrays, axis):
        return namespace(arrays[0]).concatenate(arrays[::-1], axis=axis)

    monkeypatch.setattr(blocks, "namespace", lambda _: SimpleNamespace(concatenate=reversed_))


# --- backward -------------------------------------------------------------------------------------


def changed_gradients(monkeypatch, change):
    """The gradients that a layer returns go through ``change(gradients, cache)``."""
    changed_result(
        monkeypatch, encoder, "layer_backward", lambda d, dy, cache, *_: change(d, cache)
    )


def changed_block(monkeypatch, change):
    """Those of an attention block go through ``change(gradients, cache)``."""
    changed_result(
        monkeypatch,
        encoder,
        "attention_block_backward",
        lambda found, dy, cache, *_: change(found, cache),
    )


def the_past_gets_no_gradient(monkeypatch):
    changed_gradients(monkeypatch, lambda d, _: d._replace(past=zeros_like_all(d.past)))


def the_encoders_keys_get_no_gradient(monkeypatch):
    changed_gradients(monkeypatch, lambda d, _: d._replace(cross_past=zeros_like_all(d.cross_past)))


def past_and_present_cut_on_the_wrong_side(monkeypatch):
    def wrong(right):
        def attention_backward(dcontext, cache, dweights=None):
            dquery, dkey, dvalue = right(dcontext, cache, dweights)
            L = dquery.shape[2]
            xp = namespace(dkey)
            turned = (xp.concatenate((d[:, :, L:], d[:, :, :L]), axis=2) for d in (dkey, dvalue))
            return dquery, *turned

        return attention_backward

    replaced(monkeypatch, blocks, "attention_backward", wrong)


def the_pasts_keys_and_values_exchanged(monkeypatch):
    changed_gradients(
        monkeypatch,
        lambda d, _: d._replace(past=None if d.past is None else KeysAndValues(*d.past[::-1])),
    )


def an_empty_past_taken_for_none(monkeypatch):
    """Then the gradients of the encoder's keys take the place of self-attention's."""
    replaced(
        monkeypatch,
        blocks,
        "MultiHeadCache",
        lambda right: lambda *a: right(*a[:-1], a[-1] or None),
    )


def a_source_without_gradient(monkeypatch):
    changed_block(
        monkeypatch,
        lambda found, cache: (
            found if found.source is None else found._replace(source=found.source * 0.0)
        ),
    )


def only_the_last_layer_reaches_the_encoder(monkeypatch):
    layers = []

    def counting(right):
        def encoder_backward(d, caches, g):
            layers[:] = range(len(caches))
            return right(d, caches, g)

        return encoder_backward

    def silent(d, *_):
        last = layers.pop(0) == 0  # the backward pass begins with it
        if last or d.encoder_hidden_states is None:
            return d
        return d._replace(encoder_hidden_states=0.0 * d.encoder_hidden_states)

    replaced(monkeypatch, body, "encoder_backward", counting)
    changed_result(monkeypatch, encoder, "layer_backward", silent)


def forgetting_the_offset(monkeypatch, op, position):
    """The result is right, but the cache has offset 0."""

    def wrong(right):
        def relative(*arguments):
            y, _ = right(*arguments)
            without_offset = list(arguments)
            without_offset[position] = 0
            return y, right(*without_offset)[1]

        return relative

    replaced(monkeypatch, attention, op, wrong)


def the_offset_forgotten_in_the_backward_of_the_key_term(monkeypatch):
    forgetting_the_offset(monkeypatch, "relative_key", 3)


def the_offset_forgotten_in_the_backward_of_the_value_term(monkeypatch):
    forgetting_the_offset(monkeypatch, "relative_value", 2)


def a_masked_key_that_gets_a_gradient(monkeypatch):
    """As if the backward pass had no mask."""
    changed_result(
        monkeypatch,
        attention,
        "softmax",
        lambda found, *_: (found[0], SoftmaxCache(found[0] + 0.1 * (found[0] == 0.0))),
    )


def upstream_gradients_of_keys_and_values_forgotten(monkeypatch):
    changed_upstream(monkeypatch, lambda u: u._replace(present=KeysAndValues()))


def upstream_gradients_of_cross_attentions_forgotten(monkeypatch):
    changed_upstream(monkeypatch, lambda u: u, lambda u: u._replace(weights=None))


def changed_upstream(monkeypatch, change, change_cross=None):
    """The upstream gradients of self-attention and of cross-attention go through the functions."""

    def wrong(right):
        def layer_backward(dy, cache, g, upstream):
            self_attention, cross = upstream
            changed = change(self_attention), (change_cross or change)(cross)
            return right(dy, cache, g, type(upstream)(*changed))

        return layer_backward

    replaced(monkeypatch, encoder, "layer_backward", wrong)


def only_the_last_chunk_of_the_feed_forward_network_learns(monkeypatch):
    def overwrite(gradients, **contributions):
        gradients.update(contributions)

    monkeypatch.setattr(feed_forward, "accumulate", overwrite)
