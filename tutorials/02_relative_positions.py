# %% [markdown]
# # Relative positions
#
# **What you'll do.** Remove the positions from a transformer and see what it loses; build
# NEZHA's table of distances; compute both relative terms in the obvious way and as in
# `minizha/ops/relative_position.py`, and find them equal.
#
# **What you'll learn.** Why attention needs positions at all; what the table holds, and the
# shifted index in which the released checkpoints differ from the paper's formula; why 2K+1
# vectors are enough where a straightforward program stores L × L of them; what clipping does; why
# the length of an input is not limited.
#
# **What you need.** minizha, and the idea of attention: each query takes an average of values.
# matplotlib draws the pictures if it is installed. The script runs in a few seconds.
#
# Axes: B batch, L length (i counts queries, j keys), N heads, d head size, K max relative position.

# %%
import math
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np

from minizha import NezhaConfig, NezhaModel, fill_mask, load_shipped
from minizha.ops.attention import attention
from minizha.ops.relative_position import (
    relative_key,
    relative_rows,
    relative_table,
    relative_value,
)

try:
    from matplotlib.figure import Figure
except ImportError:
    Figure = None
    print("matplotlib is not installed: no pictures, everything else runs")


def show(figure, name):
    """As a script, save the picture; a notebook shows the figure that a cell ends with."""
    if "__file__" in globals():
        figure.savefig(Path(__file__).with_name(name), dpi=120)
        print(f"picture: {name}")
    return figure


np.set_printoptions(precision=4, suppress=True, linewidth=100)
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. A transformer without positions reads a bag of words
#
# 狗咬人, dog bites man; 人咬狗, man bites dog. An attention layer sums over the keys, and a sum
# does not depend on the order of its terms. All other layers process each token
# separately. So without any information on positions, reordering the tokens reorders the outputs
# and changes nothing else: for a permutation π,
#
# $$ f(x_{\pi(1)}, \dots, x_{\pi(L)}) = (f(x)_{\pi(1)}, \dots, f(x)_{\pi(L)}). $$
#
# NEZHA's positions all come from one table, so they are easy to remove: fill it with zeros.

# %%
config = NezhaConfig(
    vocab_size=6,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    initializer_range=0.3,  # larger than usual, so that an untrained model's outputs differ clearly
)
ids = {"[CLS]": 1, "[SEP]": 2, "狗": 3, "咬": 4, "人": 5}
dog_bites_man = [[ids[t] for t in ("[CLS]", "狗", "咬", "人", "[SEP]")]]
man_bites_dog = [[ids[t] for t in ("[CLS]", "人", "咬", "狗", "[SEP]")]]
order = [0, 3, 2, 1, 4]  # the second sentence is the first in this order

with_positions = NezhaModel(config, seed=0, dtype="float64")
without = NezhaModel(config, seed=0, dtype="float64")
without.table = np.zeros_like(without.table)


def difference(model):
    """How far the outputs are from being the same vectors in another order."""
    one = model(dog_bites_man).last_hidden_state[0]
    other = model(man_bites_dog).last_hidden_state[0]
    return np.abs(one[order] - other).max()


print(f"without positions: {difference(without):.1e}")
print(f"with positions:    {difference(with_positions):.1e}")
assert difference(without) < 1e-12 < 1e-2 < difference(with_positions)

# %% [markdown]
# Without positions the two sentences are the same bag: [CLS], which represents the whole text, gets
# the same vector in both. BERT adds to each token a learnt vector for its position, one
# for each of 512 positions. NEZHA gives each *pair* of tokens a vector for the distance between
# them, and this vector is not learnt.
#
# ## 2. The table
#
# The vector of a distance is a row of sines and cosines of d/2 frequencies, like the hands of d/2
# clocks, fast and slow:
#
# $$ T[p, 2m] = \sin(p\,\omega_m), \quad T[p, 2m+1] = \cos(p\,\omega_m), \quad
#    \omega_m = 10000^{-2m/d}, \quad p = 0, \dots, 2K. $$
#
# The distance from query i to key j is δ = j − i, clipped to −K … K. Rows are
# counted from 0, so its vector is row δ + K:
#
# $$ R[i, j] = T[\mathrm{clip}(j - i, -K, K) + K]. $$

# %%
K, d = 64, 64  # the values of every released NEZHA


def frequencies(d):
    return 10000.0 ** (-np.arange(0, d, 2) / d)


def sinusoids(p, d):
    """A row of sines and cosines in turn for each number in p: (n,) → (n, d)."""
    angles = p[:, None] * frequencies(d)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(p), d)


table = sinusoids(np.arange(2 * K + 1), d)

assert np.allclose(table, relative_table(K, d), rtol=0, atol=1e-12)
print(f"{table.shape[0]} distances, −{K} … {K}, of {table.shape[1]} components each")

# %% [markdown]
# ### The shifted index
#
# Look at distance 0, from a token to itself. The paper writes its sinusoid with j − i
# where we have p, so one expects sin 0 = 0 and cos 0 = 1 in turn. But the code that trained the
# released checkpoints takes the sinusoid of the row's *index*, and distance 0 is row 64:

# %%
print("distance 0, as trained:         ", table[0 + K, :6], "…")
paper = sinusoids(np.arange(-K, K + 1), d)
print("distance 0, as the paper reads: ", paper[0 + K, :6], "…")
assert np.allclose(table[K, :3], [0.9200, 0.3919, -0.7639], atol=5e-5)
assert np.allclose(paper[K, :4], [0, 1, 0, 1])

# %% [markdown]
# Does it matter? A shift by K turns each clock by a fixed angle $K\omega_m$. All these rotations form one
# matrix Q, which is orthogonal and the same for all distances:
#
# $$ (\sin((\delta+K)\omega),\; \cos((\delta+K)\omega)) = (\sin \delta\omega,\; \cos \delta\omega)
#    \begin{pmatrix} \cos K\omega & -\sin K\omega \\ \sin K\omega & \cos K\omega \end{pmatrix}. $$
#
# So the two tables have the same geometry: the angle between rows p and p′ depends on p − p′
# alone. A model trained from scratch can learn with either. A *trained* model can't change tables:
# its queries fit the table with which it was trained. With the other table, the same query gets
# other scores:

# %%
Q = np.zeros((d, d))
for m, turn in enumerate(K * frequencies(d)):
    block = slice(2 * m, 2 * m + 2)
    Q[block, block] = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]

print(f"paper · Q is the table, up to {np.abs(paper @ Q - table).max():.1e}")
assert np.allclose(paper @ Q, table, rtol=0, atol=1e-12)
assert np.allclose(Q @ Q.T, np.eye(d))
assert np.allclose(table @ table.T, paper @ paper.T, rtol=0, atol=1e-11)
assert np.allclose(table[10] @ table[13], table[90] @ table[93])

query = rng.standard_normal(d)
print("q · R for distances −1, 0, 1, as trained:        ", table[K - 1 : K + 2] @ query)
print("the same query, and the paper's table:           ", paper[K - 1 : K + 2] @ query)
assert np.abs(table @ query - paper @ query).max() > 1

# %% [markdown]
# And a trained model loses what it knew. The model that minizha includes was trained on a Chinese
# novel. Kongming …: "My lord, don't worry." Every reader of the novel answers 曰, said. So does the
# model, but not with the paper's table, and not without positions:

# %%
shipped, tokenizer = load_shipped()
size = shipped.config.head_size
tables = {
    "as trained": shipped.table,
    "as the paper reads": sinusoids(np.arange(-K, K + 1), size).astype(np.float32),
    "zeros": np.zeros_like(shipped.table),
}
assert np.allclose(tables["as trained"], sinusoids(np.arange(2 * K + 1), size), rtol=0, atol=1e-6)

said = {}
for name, tried in tables.items():
    shipped.table = tried
    guesses = fill_mask(shipped, tokenizer, "孔明[MASK]：“主公勿忧。”", top_k=len(tokenizer))[0]
    said[name] = dict(guesses)["曰"]
    best = "  ".join(f"{g.token} {g.probability:.2f}" for g in guesses[:3])
    print(f"{name + ':':20} 曰 {said[name]:.3f}    the best three: {best}")
assert said["as trained"] > 0.9
assert max(said["as the paper reads"], said["zeros"]) < 0.5

# %% [markdown]
# ### Pictures
#
# The pictures show, row by row: the table, a row for each distance; three of its columns, c = 8, 16
# and 24, fast clocks and slow ones, each as a curve over the distance; the sines of three of its rows,
# from fast to slow, those of the distances 0, 1 and 32; and component 16 of R for 160 tokens. In the
# last picture each diagonal has one colour, since j − i is constant on it, and the two corners beyond
# ±K are uniform.


# %% mystnb={"image": {"alt": "Four pictures. The table as a heat map: stripes, narrow on the left and wide on the right. Three waves over the distance, each slower than the one before. Three rows of sines that wave on the left and become flat on the right. One component of R: diagonal stripes between two corners of one colour."}}
def draw_table():
    figure = Figure(figsize=(6.2, 5.6), layout="constrained")
    (whole, columns), (rows, relation) = figure.subplots(2, 2)
    colours = {"cmap": "RdBu", "vmin": -1, "vmax": 1, "interpolation": "none"}
    image = whole.imshow(table, aspect="auto", extent=(-0.5, d - 0.5, K + 0.5, -K - 0.5), **colours)
    whole.set(title="$T$", xlabel="$c$", ylabel="$j - i$")
    figure.colorbar(image, ax=whole)

    distances = np.arange(-K, K + 1)
    for component in (8, 16, 24):
        columns.plot(distances, table[:, component], label=f"${component}$", lw=1.4)
    columns.set(title="$T[\\cdot, c]$", xlabel="$j - i$")
    columns.legend(frameon=False, loc="lower center", ncols=3, title="$c$")

    for distance in (0, 1, 32):
        rows.plot(table[distance + K, 0::2], ".-", label=f"${distance}$", lw=1)
    rows.set(title="$T[\\delta + K, 2m]$", xlabel="$m$")
    rows.legend(frameon=False, loc="lower center", ncols=3, title="$\\delta$")

    places = np.arange(160)
    component = 16
    R = table[np.clip(places - places[:, None], -K, K) + K, component]
    image = relation.imshow(R, **colours)
    relation.set(title=f"$R[i, j, {component}]$", xlabel="$j$", ylabel="$i$")
    figure.colorbar(image, ax=relation, pad=0.02)
    for axes in (columns, rows):
        axes.set_ylim(-1.9, 1.1)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


show(draw_table(), "02_table.png") if Figure else None

# %% [markdown]
# ## 3. Where R enters: twice
#
# NEZHA's attention is BERT's, with R added to the keys in the scores and to the values in the
# average:
#
# $$ s_{ij} = \frac{q_i \cdot (k_j + R_{ij})}{\sqrt d}, \qquad P = \mathrm{softmax}(s), \qquad
#    c_i = \sum_j P_{ij}\,(v_j + R_{ij}). $$
#
# The obvious program builds R, an array of shape (L, L, d). For N heads, this is the whole program:


# %%
def naive_attention(query, key, value, table):
    """(N, L, d) each, and the table (2K+1, d) → context (N, L, d)."""
    L, K = query.shape[1], table.shape[0] // 2
    places = np.arange(L)
    R = table[np.clip(places - places[:, None], -K, K) + K]  # (L, L, d)
    scores = query @ key.swapaxes(1, 2)
    scores += (query.swapaxes(0, 1) @ R.swapaxes(1, 2)).swapaxes(0, 1)
    scores /= math.sqrt(query.shape[-1])
    probs = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probs /= probs.sum(axis=-1, keepdims=True)
    return probs @ value + (probs.swapaxes(0, 1) @ R).swapaxes(0, 1)


N, L = 4, 512
query, key, value = rng.standard_normal((3, N, L, d))


def measured(function):
    """The result, the seconds, and the most memory held at one time, in MiB."""
    started = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - started
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return result, seconds, peak


naive, naive_seconds, naive_peak = measured(lambda: naive_attention(query, key, value, table))
ours, our_seconds, our_peak = measured(
    lambda: attention(query[None], key[None], value[None], table)[0][0]
)
print(f"{N} heads, {L} tokens, float64")
print(f"  with R of shape (L, L, d): {naive_seconds:6.3f} s, {naive_peak:6.0f} MiB")
print(f"  minizha:                   {our_seconds:6.3f} s, {our_peak:6.0f} MiB")
print(f"  largest difference:        {np.abs(naive - ours).max():.1e}")
assert np.allclose(naive, ours, rtol=0, atol=1e-12)
assert our_peak < naive_peak / 2
assert naive_peak > L * L * d * 8 / 2**20  # R alone

# %% [markdown]
# R alone takes L²·d numbers. A program that stores it in every layer, for 512 tokens, and saves it
# with the weights, saves more numbers for positions than weights. But R holds only 2K+1 *different*
# vectors. So:
#
# * **Key term.** $q_i \cdot R_{ij}$ is one of the 2K+1 numbers $q_i \cdot T[c]$. Compute these
#   once, `query @ table.T` of shape (L, 2K+1), and select one for each key.
# * **Value term.** $\sum_j P_{ij} R_{ij}$ contains the same vector many times. First add the weights
#   of each distance, which gives 2K+1 sums, and then multiply by the table once.

# %%
places = np.arange(L)
rows = np.clip(places - places[:, None], -K, K) + K
assert (rows == relative_rows(L, L, K)).all()
R = table[rows]
probs = rng.dirichlet(np.ones(L), size=(N, L))

key_term, _ = relative_key(query, table, L)
value_term, _ = relative_value(probs, table)
assert np.allclose(key_term, np.einsum("nid,ijd->nij", query, R, optimize=True), atol=1e-12)
assert np.allclose(value_term, np.einsum("nij,ijd->nid", probs, R, optimize=True), atol=1e-12)
print(f"R holds {R.size:,} numbers, the table {table.size:,}: {R.size // table.size} times fewer")

base_layers, base_parameters = 12, 102_489_226  # NezhaForPreTraining at its default sizes
print(f"R in {base_layers} layers: {R.size * base_layers:,}; weights: {base_parameters:,}")
assert R.size * base_layers > base_parameters
del R

# %% [markdown]
# ## 4. The shift, on three tokens
#
# To *select* a column for each key, use indices: key j of query i reads column `rows[i, j]`, as above.
# To *add* by indices is slow, though: keys with equal row are added to one entry, one
# after the other. There is a faster method, for all keys at once. Take three tokens and the five
# distances −2 … 2. Let a number name the entry "query i, distance δ": the hundreds are the
# query (1, 2, 3), the rest is 50 + δ.

# %%
columns = 100 * np.arange(1, 4)[:, None] + 50 + np.arange(-2, 3)
print(columns)
picked = np.take_along_axis(columns, relative_rows(3, 3, 2), axis=1)  # the entry of each key
print(picked)

# %% [markdown]
# Key j of query i is at distance j − i. So query 0 needs the columns of distances 0, 1, 2;
# query 1 those of −1, 0, 1; query 2 those of −2, −1, 0: a window that moves one column to the left
# from each row to the next. Now append a spare element to each row (6 a row), read the array as one
# flat sequence, drop the first two numbers, and cut the rest into rows that are *one shorter* (5 a
# row). Each row then begins one column earlier than the row above:

# %%
spare = np.pad(columns, ((0, 0), (0, 1)), constant_values=0)
print("with a spare column:", spare, sep="\n")
flat = spare.reshape(-1)
shifted = flat[2 : 2 + 3 * 5].reshape(3, 5)
print("the same memory from element 2 on, five a row:", shifted, sep="\n")
by_key = shifted[:, :3]
print("the first three columns, one for each key:", by_key, sep="\n")

assert np.shares_memory(by_key, spare)  # nothing was copied
assert (by_key == picked).all()

# %% [markdown]
# In general, with L tokens and stride S, element (i, j) of the shifted view is element
# (L − 1) + i·(S − 1) + j = i·S + (j − i + L − 1) of the memory: row i, column "distance j − i". This
# is the function `by_key` in `minizha/kernels/relative_position.py`. `relative_key` returns this
# view of one product. With the unit matrix as queries and our numbers as the table:

# %%
unit = np.eye(3)
assert (relative_key(unit, columns.T.astype(float), length_k=3)[0] == by_key).all()

# %% [markdown]
# The value term needs the opposite: the weights, one for each key, are written into columns, one for
# each distance. The view is the same, but now it is written to, and this saves the most time. So
# `relative_value` exists twice: as it is defined, key by key, in
# `minizha/ops/relative_position.py`, and with the shift as a *kernel*, which float arrays run.
# `.plain` calls the former. With the unit matrix as the table, the result is the columns themselves:

# %%
weights = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.4, 0.4, 0.2]])
by_distance, _ = relative_value(weights, np.eye(5))
print("weights by key:", weights, sep="\n")
print("weights by distance −2 … 2:", by_distance, sep="\n")
assert (by_distance == [[0, 0, 0.5, 0.3, 0.2], [0, 0.1, 0.6, 0.3, 0], [0.4, 0.4, 0.2, 0, 0]]).all()
assert (by_distance == relative_value.plain(weights, np.eye(5))[0]).all()

# %% [markdown]
# Selecting by key and adding by distance are transposes of each other:
# ⟨select(a), b⟩ = ⟨a, add(b)⟩. So the backward pass of the key term is the value term applied to
# gradients, and the reverse: four functions, two ideas.

# %%
assert math.isclose((by_key * weights).sum(), (columns * by_distance).sum())

# %% [markdown]
# ## 5. Clipping: beyond K all distances are equal
#
# To see all of R, let its vectors have one component, the distance itself. With
# K = 3 and ten tokens:

# %%
distance_itself = np.arange(-3.0, 4.0)[:, None]  # (2K+1, 1)
seen, _ = relative_key(np.ones((10, 1)), distance_itself, length_k=10)
print(seen.astype(int))
assert (seen == np.clip(np.arange(10) - np.arange(10)[:, None], -3, 3)).all()

# %% [markdown]
# Two tokens on one side of a query, both farther than K from it, have the same relative vector.
# Exchange them, and one layer of attention gives this query the same output. A second layer does
# not: the exchange changes the outputs of the tokens' neighbours in the first layer, and the query
# attends to these neighbours in the second.

# %%
near = config.replace(vocab_size=20, max_relative_position=2)
text = [[1, 7, 8, 9, 10, 11, 12, 13]]
exchanged = [[1, 7, 8, 9, 13, 11, 12, 10]]  # positions 4 and 7: farther than 2 from position 0
for layers in (1, 2):
    model = NezhaModel(near.replace(num_hidden_layers=layers), seed=1, dtype="float64")
    one, other = (model(t).last_hidden_state[0, 0] for t in (text, exchanged))
    change = np.abs(one - other).max()
    print(f"K = 2, {layers} layer{'s' * (layers > 1)}: [CLS] changes by {change:.1e}")
    assert change < 1e-12 if layers == 1 else change > 1e-3

# %% [markdown]
# ## 6. Only distances count
#
# If only j − i enters, then a text may start anywhere. Put five masked tokens before it
# (attention mask 0), and every token of the text gets the same vector as before, although its
# position has changed by five. With vectors for positions, as in BERT, the vectors would change.

# %%
model = NezhaModel(config.replace(vocab_size=20), seed=2, dtype="float64")
alone = model(text).last_hidden_state
moved = model(
    [[3, 3, 3, 3, 3, *text[0]]], attention_mask=[[0, 0, 0, 0, 0, *[1] * 8]]
).last_hidden_state[:, 5:]
print(f"moved by five positions: {np.abs(alone - moved).max():.1e}")
assert np.allclose(alone, moved, rtol=0, atol=1e-12)

# %% [markdown]
# ## 7. No limit on the length
#
# No parameter has an axis for positions, so the model runs at any length, also beyond 512 tokens.
# It then warns once: it was not trained on texts longer than `max_position_embeddings`, so its
# quality there is unknown. (Programs that
# store R for 512 tokens fail at 513, though the encoding is a function.)

# %%
for name, array in model.state_dict().items():
    assert 512 not in array.shape, name

long_text = rng.integers(3, 20, size=(1, 1300))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    out = model(long_text)
print(f"{long_text.shape[1]} tokens in, hidden states {out.last_hidden_state.shape} out")
print(f"the warning: {caught[0].message}")
assert len(caught) == 1
assert np.isfinite(out.last_hidden_state).all()

# %% [markdown]
# ## Where to go on
#
# * `minizha/ops/relative_position.py`: the table, clipping and both terms with their backward pass;
#   `minizha/kernels/relative_position.py`: the shift; `minizha/ops/attention.py`: attention.
# * Tutorial 03 derives the backward passes of LayerNorm and of the loss. It does not derive those of
#   the relative terms; it checks them, with every other gradient of a whole model.
#
# To try: set K = 1 in section 6, and the result still holds; why? Flip the sign,
# T[clip(i − j) + K]: which of the assertions above would fail?
