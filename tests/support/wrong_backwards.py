"""Wrong backward functions, most of them mistakes that people made: no check may let one pass.

``WRONG[op][what is wrong]`` has the signature of ``op_backward``, and reads the cache of the plain
``op``. Some call the right function
with a changed cache.
"""

import math

from minizha.backend import namespace
from minizha.ops.activation import relu_backward, silu_backward
from minizha.ops.attention import attention_backward
from minizha.ops.binary_cross_entropy import binary_cross_entropy_backward
from minizha.ops.cross_entropy import cross_entropy_backward
from minizha.ops.embedding import embedding_backward
from minizha.ops.gelu import gelu_new, gelu_new_backward
from minizha.ops.layer_norm import layer_norm_backward
from minizha.ops.linear import linear_backward
from minizha.ops.relative_position import (
    _keys_to_columns,
    relative_key_backward,
    relative_rows,
    relative_value_backward,
)
from minizha.ops.softmax import softmax_backward
from minizha.ops.squared_error import squared_error_backward

# --- linear, embedding ----------------------------------------------------------------------------


def bias_averaged(dy, cache):
    dx, dweight, dbias = linear_backward(dy, cache)
    return dx, dweight, dbias / (dy.size // dy.shape[-1])


def weight_from_the_last_example(dy, cache):
    dx, _, dbias = linear_backward(dy, cache)
    return dx, dy[-1].T @ cache.x[-1], dbias


def repeated_ids_lost(dy, cache):
    dweight = namespace(dy).zeros((cache.num_rows, dy.shape[-1]), dtype=dy.dtype)
    dweight[cache.ids.reshape(-1)] = dy.reshape(-1, dy.shape[-1])
    return dweight


# --- layer_norm -----------------------------------------------------------------------------------


def _layer_norm_dx(formula):
    def backward(dy, cache):
        n, dn = cache.normalised, dy * cache.weight
        _, dweight, dbias = layer_norm_backward(dy, cache)
        return formula(dn, n, cache.inverse_std), dweight, dbias

    return backward


def _mean(x):
    return x.mean(axis=-1, keepdims=True)


def _unbiased(x):
    return x.sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)


def weight_gradient_of_x_and_not_of_n(dy, cache):
    dx, _, dbias = layer_norm_backward(dy, cache)
    lead = tuple(range(dy.ndim - 1))
    return dx, (dy * cache.normalised / cache.inverse_std).sum(axis=lead), dbias


def as_if_the_weight_were_1(dy, cache):
    _, dweight, dbias = layer_norm_backward(dy, cache)
    return layer_norm_backward(dy / cache.weight, cache)[0], dweight, dbias


# --- relative_position ----------------------------------------------------------------------------


def _other_rows(backward):
    return lambda dy, cache: backward(dy, cache._replace(table=cache.table[::-1]))


def _no_offset(backward):
    """Right only for offset 0."""

    def wrong(dy, cache):
        K = cache.table.shape[0] // 2
        rows = relative_rows(*cache.rows.shape, K, xp=namespace(dy))
        return backward(dy, cache._replace(rows=rows))

    return wrong


def clipped_keys_lost(dy, cache):
    """Keys beyond ±K share one column, and are averaged there, not summed."""
    xp, (table, rows) = namespace(dy), cache
    columns = _keys_to_columns(dy, rows, table.shape[0])
    keys = _keys_to_columns(xp.ones_like(dy), rows, table.shape[0])
    return (columns / xp.maximum(keys, 1.0)) @ table


# --- attention ------------------------------------------------------------------------------------


def _dquery(change):
    def backward(dcontext, cache):
        dquery, dkey, dvalue = attention_backward(dcontext, cache)
        return change(dquery, dcontext, cache), dkey, dvalue

    return backward


def _root(dquery, dcontext, cache):
    return dquery * math.sqrt(dquery.shape[-1])


def _no_relative_key(dquery, dcontext, cache):
    silent = cache.relative_key._replace(table=0.0 * cache.relative_key.table)
    return attention_backward(dcontext, cache._replace(relative_key=silent))[0]


def key_meets_the_unscaled_query(dcontext, cache):
    dquery, dkey, dvalue = attention_backward(dcontext, cache)
    return dquery, dkey * math.sqrt(dkey.shape[-1]), dvalue


def relative_value_term_dropped(dcontext, cache):
    silent = cache.relative_value._replace(table=0.0 * cache.relative_value.table)
    return attention_backward(dcontext, cache._replace(relative_value=silent))


def value_by_the_undropped_probabilities(dcontext, cache):
    dquery, dkey, _ = attention_backward(dcontext, cache)
    probs = cache.softmax.probs * cache.head_mask
    return dquery, dkey, probs.swapaxes(-1, -2) @ dcontext


def head_mask_forgotten(dcontext, cache):
    return attention_backward(dcontext, cache._replace(head_mask=None))


def dropout_forgotten(dcontext, cache):
    return attention_backward(dcontext, cache._replace(dropout=cache.dropout._replace(factor=None)))


def key_and_value_exchanged(dcontext, cache):
    dquery, dkey, dvalue = attention_backward(dcontext, cache)
    return dquery, dvalue, dkey


# --- cross_entropy --------------------------------------------------------------------------------


def mean_over_all_rows(dloss, cache):
    return cross_entropy_backward(dloss, cache._replace(count=cache.shape[0]))


def summed_and_not_averaged(dloss, cache):
    return cross_entropy_backward(dloss, cache._replace(count=1))


def label_forgotten(dloss, cache):
    dlogits = namespace(cache.probs).zeros(cache.shape, dtype=cache.probs.dtype)
    dlogits[cache.rows] = cache.probs * dloss / cache.count
    return dlogits


def label_one_off(dloss, cache):
    return cross_entropy_backward(dloss, cache._replace(labels=(cache.labels + 1) % cache.shape[1]))


def ignored_rows_learn(dloss, cache):
    return cross_entropy_backward(dloss, cache) + dloss / cache.shape[0]


# --- squared_error, binary_cross_entropy ----------------------------------------------------------


def mean_over_the_rows_alone(backward):
    """The columns are averaged over too: dividing by T leaves a factor C."""
    return lambda dloss, cache: backward(dloss, cache) * cache[0].shape[1]


def summed(backward):
    return lambda dloss, cache: backward(dloss, cache) * cache[0].size


def slope_of_the_distance(dloss, cache):
    """|y − targets| in place of its square."""
    xp = namespace(cache.difference)
    return xp.sign(cache.difference) * (dloss / cache.difference.size)


def targets_forgotten(dloss, cache):
    nothing = namespace(cache.probs).zeros_like(cache.targets)
    return binary_cross_entropy_backward(dloss, cache._replace(targets=nothing))


def yes_and_no_exchanged(dloss, cache):
    return binary_cross_entropy_backward(dloss, cache._replace(targets=1.0 - cache.targets))


def sigmoid_differentiated_once_more(dloss, cache):
    """As if the loss were a squared error of the probabilities."""
    slope = cache.probs * (1.0 - cache.probs)
    return binary_cross_entropy_backward(dloss, cache) * slope


def columns_compete(dloss, cache):
    """The probabilities of a softmax, right only where exactly one label of several holds."""
    total = cache.probs.sum(axis=-1, keepdims=True)
    return binary_cross_entropy_backward(dloss, cache._replace(probs=cache.probs / total))


# --- the table ------------------------------------------------------------------------------------

WRONG = {
    "linear": {
        "bias averaged over the rows": bias_averaged,
        "weight learns from the last example alone": weight_from_the_last_example,
    },
    "embedding": {
        "repeated ids lost": repeated_ids_lost,
        "padding row is another": lambda dy, c: embedding_backward(
            dy, c._replace(padding_idx=int(c.ids[0, 0]))
        ),
    },
    "layer_norm": {
        "mean not subtracted": _layer_norm_dx(lambda dn, n, s: (dn - n * _mean(dn * n)) * s),
        "variance taken as constant": _layer_norm_dx(lambda dn, n, s: (dn - _mean(dn)) * s),
        "unbiased variance": _layer_norm_dx(
            lambda dn, n, s: (dn - _mean(dn) - n * _unbiased(dn * n)) * s
        ),
        "sign of the variance's term": _layer_norm_dx(
            lambda dn, n, s: (dn - _mean(dn) + n * _mean(dn * n)) * s
        ),
        "not divided by σ": _layer_norm_dx(lambda dn, n, s: dn - _mean(dn) - n * _mean(dn * n)),
        "weight left out": as_if_the_weight_were_1,
        "weight's gradient with centred, not normalised, x": weight_gradient_of_x_and_not_of_n,
    },
    "gelu": {
        "slope of the tanh form": lambda dy, c: gelu_new_backward(dy, gelu_new(c.x)[1]),
        "x · φ(x) left out": lambda dy, c: dy * c.cdf,
    },
    "gelu_new": {
        "3 of the cube left out": lambda dy, c: (
            gelu_new_backward(dy, c)
            - dy * c.x * (1.0 - c.t * c.t) * (math.sqrt(2.0 / math.pi) * 0.044715) * c.x * c.x
        ),
        "first factor taken as constant": lambda dy, c: (
            gelu_new_backward(dy, c) - dy * 0.5 * (1.0 + c.t)
        ),
    },
    "relu": {
        "lets everything through": lambda dy, c: dy,
        "lets the negative through": lambda dy, c: dy - relu_backward(dy, c),
    },
    "silu": {
        "σ taken as constant": lambda dy, c: dy * c.sigmoid,
        "sign of σ′": lambda dy, c: 2.0 * dy * c.sigmoid - silu_backward(dy, c),
    },
    "tanh": {
        "y and not y²": lambda dy, c: dy * (1.0 - c.y),
        "1 + y²": lambda dy, c: dy * (1.0 + c.y * c.y),
    },
    "softmax": {
        "without the mean": lambda dy, c: dy * c.probs,
        "mean not weighted by the probabilities": lambda dy, c: c.probs * (dy - _mean(dy)),
        "sign of the mean": lambda dy, c: 2.0 * dy * c.probs - softmax_backward(dy, c),
    },
    "dropout": {
        "not applied": lambda dy, c: dy,
        "not scaled": lambda dy, c: dy * (c.factor > 0),
        "the others kept": lambda dy, c: dy * (c.factor == 0),
    },
    "relative_key": {
        "distance i − j": _other_rows(relative_key_backward),
        "offset forgotten": _no_offset(relative_key_backward),
        "clipped keys averaged, not summed": clipped_keys_lost,
    },
    "relative_value": {
        "distance i − j": _other_rows(relative_value_backward),
        "offset forgotten": _no_offset(relative_value_backward),
        "dropped": lambda dy, c: 0.0 * relative_value_backward(dy, c),
    },
    "attention": {
        "query's 1/√d missing": _dquery(_root),
        "relative key term dropped": _dquery(_no_relative_key),
        "key's 1/√d missing": key_meets_the_unscaled_query,
        "relative value term dropped": relative_value_term_dropped,
        "value by the probabilities before dropout": value_by_the_undropped_probabilities,
        "head mask forgotten": head_mask_forgotten,
        "dropout forgotten": dropout_forgotten,
        "key and value exchanged": key_and_value_exchanged,
    },
    "cross_entropy": {
        "mean over all rows": mean_over_all_rows,
        "summed": summed_and_not_averaged,
        "label forgotten": label_forgotten,
        "label one off": label_one_off,
        "ignored rows learn": ignored_rows_learn,
    },
    "squared_error": {
        "2 of the square left out": lambda dloss, c: 0.5 * squared_error_backward(dloss, c),
        "sign": lambda dloss, c: -squared_error_backward(dloss, c),
        "slope of the distance": slope_of_the_distance,
        "summed": summed(squared_error_backward),
        "mean over the rows alone": mean_over_the_rows_alone(squared_error_backward),
    },
    "binary_cross_entropy": {
        "targets forgotten": targets_forgotten,
        "yes and no exchanged": yes_and_no_exchanged,
        "slope of σ once more": sigmoid_differentiated_once_more,
        "columns compete": columns_compete,
        "summed": summed(binary_cross_entropy_backward),
        "mean over the rows alone": mean_over_the_rows_alone(binary_cross_entropy_backward),
    },
}
