# %% [markdown]
# # Backward by hand
#
# **What you'll do.** Derive the backward pass of LayerNorm, get it wrong first, build the check
# that finds the mistake, and get it right. Derive the backward pass of softmax with cross-entropy.
# Then check every parameter of a whole NEZHA, break one line of its backward pass, find the broken
# line, and finally train.
#
# **What you'll learn.** What a backward function computes; how ⟨u, Jv⟩ = ⟨Jᵀu, v⟩ checks it in
# three lines; why the complex step gives a derivative to the last digit and a difference quotient
# does not; why an upstream gradient of ones proves nothing; why the gradient of the loss is p − y.
#
# **What you need.** minizha, the chain rule, and Jacobians. matplotlib draws the
# picture if it is installed. The script runs in a few seconds.

# %%
import time
from pathlib import Path
from unittest import mock

import numpy as np

from minizha import NezhaConfig, NezhaForPreTraining, crosscheck
from minizha.crosscheck import check_pair
from minizha.ops import attention as attention_file
from minizha.ops import cross_entropy as cross_entropy_file
from minizha.ops import layer_norm as layer_norm_file
from minizha.ops.relative_position import relative_key_backward
from minizha.ops.softmax import softmax, softmax_backward
from minizha.training.optimizer import AdamW

try:
    from matplotlib.figure import Figure
except ImportError:
    Figure = None
    print("matplotlib is not installed: no picture, everything else runs")


def show(figure, name):
    """As a script, save the picture; a notebook shows the figure that a cell ends with."""
    if "__file__" in globals():
        figure.savefig(Path(__file__).with_name(name), dpi=120)
        print(f"picture: {name}")
    return figure


np.set_printoptions(precision=4, suppress=True, linewidth=100)

# %% [markdown]
# ## 1. What a backward function is
#
# A model is a chain of functions that ends in one number, the loss ℓ. Take one function, y = f(x),
# with its Jacobian J, $J_{ab} = \partial y_a / \partial x_b$. Write dy for ∂ℓ/∂y and dx for ∂ℓ/∂x,
# arrays of the shapes of y and x. The chain rule says, by elements and as a product of matrices:
#
# $$ dx_b = \sum_a dy_a \frac{\partial y_a}{\partial x_b}, \qquad dx = J^{\top} dy. $$
#
# So each operation is a pair: `y, cache = op(x)` and `dx = op_backward(dy, cache)`. The backward
# function multiplies by the transposed Jacobian without ever storing it. All operations in
# `minizha/ops/` are such pairs.
#
# ## 2. LayerNorm, a first try
#
# For each vector x of D numbers:
#
# $$ \mu = \mathrm{mean}(x), \quad c = x - \mu, \quad s = (\mathrm{mean}(c^2) + \varepsilon)^{-1/2},
#    \quad n = c\,s, \quad y = w\,n + b. $$

# %%
EPS = 1e-12


def mean(x):
    return x.mean(axis=-1, keepdims=True)


def my_layer_norm(x, w, b):
    c = x - mean(x)
    s = 1 / np.sqrt(mean(c * c) + EPS)
    n = c * s
    return w * n + b, (n, s, w)


rng = np.random.default_rng(0)
x, w, b = rng.standard_normal((3, 8)), rng.standard_normal(8), rng.standard_normal(8)
y, _ = my_layer_norm(x, w, b)
assert np.allclose(y, layer_norm_file.layer_norm(x, w, b, EPS)[0], rtol=0, atol=1e-14)

# %% [markdown]
# Now backwards, from the last line to the first.
#
# **y = w·n + b.** Each element of y depends on one element each of n, w and b. All rows share w and
# b, so their gradients are sums over rows: $db = \sum dy$, $dw = \sum dy\cdot n$, $dn = dy\cdot w$.
#
# **n = c·s.** n depends on c in two ways. Directly, which gives $dn\cdot s$. And through s, which depends
# on all D elements: $ds = \sum dn\cdot c$, and from $s = (\mathrm{mean}(c^2) + \varepsilon)^{-1/2}$ we
# have $\partial s/\partial c = -\tfrac12 s^3 \cdot 2c/D = -s^3 c / D$. With c·s = n this adds
#
# $$ -\frac{s^3 c}{D} \sum dn\cdot c = -s\,n\;\mathrm{mean}(dn\cdot n). $$
#
# **c = x − μ.** The slope of x − μ in x is 1, so dx = dc. Is that right? Let's write it and check.


# %%
def first_try(dy, cache):
    n, s, w = cache
    dn = dy * w
    dx = (dn - n * mean(dn * n)) * s
    return dx, (dy * n).sum(axis=0), dy.sum(axis=0)


# %% [markdown]
# ## 3. The check
#
# How can one test a product with $J^{\top}$ without knowing J? By the property that defines the
# transpose: for any two vectors u (like y) and v (like x),
#
# $$ \langle u, Jv\rangle = \langle J^{\top}u, v\rangle. $$
#
# The right side needs the backward function, applied to u. The left side needs Jv, the change of y
# if x moves in the direction v, which needs *forward* passes only. With random u and v,
# the two sides differ if $J^{\top}$ is wrong.
#
# There is a trick to compute Jv. Take a step in the imaginary direction:
#
# $$ f(x + ihv) = f(x) + ih\,Jv - \tfrac{h^2}{2}\,f''(x)[v, v] - \dots $$
#
# The imaginary part, divided by h, is Jv up to terms of size h². And since nothing is
# subtracted, h may be arbitrarily small: with h = 1e-30, those terms vanish.


# %%
def directional(forward, arguments, k, v, h=1e-30):
    """Jv: how the output changes as argument k moves along v."""
    moved = list(arguments)
    moved[k] = moved[k] + 1j * h * v
    return forward(*moved)[0].imag / h


def check(forward, backward, arguments, u):
    """Both sides of ⟨u, Jv⟩ = ⟨Jᵀu, v⟩, for each argument; True if all agree."""
    _, cache = forward(*arguments)
    agree = True
    for k, gradient in enumerate(backward(u, cache)):
        v = np.random.default_rng([1, k]).standard_normal(arguments[k].shape)
        left = (u * directional(forward, arguments, k, v)).sum()
        right = (gradient * v).sum()
        same = abs(left - right) < 1e-12 * max(1, abs(left))
        print(f"  argument {k}: {left:20.15f}  {right:20.15f}  {'' if same else '<-- differ'}")
        agree &= same
    return agree


u = rng.standard_normal(y.shape)
print("the first try, ⟨u, Jv⟩ and ⟨Jᵀu, v⟩ for x, w, b:")
assert not check(my_layer_norm, first_try, (x, w, b), u)

# %% [markdown]
# The gradients of w and b are right to the last digit, that of x is wrong. minizha has this check as
# `check_pair`; it reports the argument with the largest error, and the expected value:

# %%
report = check_pair(my_layer_norm, first_try, (x, w, b))
print(report)
assert not report.ok
assert report.name == "argument 0"

# %% [markdown]
# What is missing? In c = x − μ the mean is itself a function of x: *every* c depends on each x,
# through μ, with slope −1/D. That path adds −(1/D)·Σ dc to each dx:
#
# $$ dx = dc - \mathrm{mean}(dc). $$
#
# This is the subtraction of the forward pass again, since the matrix "subtract the mean" is its own
# transpose. And as mean(n) = 0, only the mean of the first term of dc is not 0:
#
# $$ dx = \bigl(dn - \mathrm{mean}(dn) - n\;\mathrm{mean}(dn\cdot n)\bigr)\,s. $$


# %%
def my_layer_norm_backward(dy, cache):
    n, s, w = cache
    dn = dy * w
    dx = (dn - mean(dn) - n * mean(dn * n)) * s
    return dx, (dy * n).sum(axis=0), dy.sum(axis=0)


print("with the mean's path:")
assert check(my_layer_norm, my_layer_norm_backward, (x, w, b), u)
assert check_pair(my_layer_norm, my_layer_norm_backward, (x, w, b)).ok

_, cache = layer_norm_file.layer_norm(x, w, b, EPS)
theirs = layer_norm_file.layer_norm_backward(u, cache)
mine = my_layer_norm_backward(u, my_layer_norm(x, w, b)[1])
assert all(np.allclose(m, t, rtol=0, atol=1e-13) for m, t in zip(mine, theirs, strict=True))

# %% [markdown]
# ## 4. Why not a difference quotient?
#
# The usual first idea is (f(x + h) − f(x)) / h. Make h small, and the truncation
# error shrinks with it. But f(x + h) and f(x) then agree in their leading digits; the subtraction
# cancels these, and of the 16 digits of a float64 only the rounded last ones remain: an error of
# about 1e-16 / h. The best compromise is h ≈ 1e-8, and **half of the digits are lost**. The
# central difference loses a third of them. The complex step loses none.
#
# For the heart of LayerNorm, f(x) = x / √(1 + x²), the derivative is known: (1 + x²)^(−3/2).


# %%
def f(x):
    return x / np.sqrt(1 + x * x)


point = 0.7
slope = (1 + point * point) ** -1.5
steps = 10.0 ** -np.arange(1, 17)
errors = {
    "forward": [abs((f(point + h) - f(point)) / h - slope) for h in steps],
    "central": [abs((f(point + h) - f(point - h)) / (2 * h) - slope) for h in steps],
    "complex": [abs(f(point + 1j * h).imag / h - slope) for h in steps],
}
print(f"{'h':>8}" + "".join(f"{name:>12}" for name in errors))
for i, h in enumerate(steps):
    print(f"{h:8.0e}" + "".join(f"{column[i]:12.1e}" for column in errors.values()))

assert 1e-11 < min(errors["forward"]) < 1e-7  # about half of 16 digits
assert 1e-14 < min(errors["central"]) < 1e-9
assert max(errors["complex"][8:]) < 1e-15
assert abs(f(point + 1e-30j).imag / 1e-30 - slope) < 1e-15

# %% [markdown]
# The picture shows two V's, the two difference quotients, which never reach float64's precision,
# and one line that goes down to it and stays there. The dashed line is that precision, 2⁻⁵². (An error
# of exactly 0 is drawn as 1e-17.)


# %% mystnb={"image": {"alt": "The error of a derivative over the step h, both on logarithmic scales. The forward difference falls to about 1e-8 and rises again, the central difference falls to about 1e-11 and rises again. The complex step falls to the dashed line at 2e-16 and stays there."}}
def draw_errors():
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.subplots()
    formulas = (
        r"$(f(x + h) - f(x))\;/\;h$",
        r"$(f(x + h) - f(x - h))\;/\;2h$",
        r"$\mathrm{Im}\,f(x + ih)\;/\;h$",
    )
    for column, formula, mark in zip(errors.values(), formulas, "o^s", strict=True):
        axes.loglog(steps, np.maximum(column, 1e-17), marker=mark, ms=4, lw=1.2, label=formula)
    axes.axhline(np.finfo(float).eps, color="black", lw=0.8, ls="--")
    axes.annotate("$2^{-52}$", (0.2, 3e-16), ha="left")
    axes.set(xlabel="$h$", ylabel="$|f'(x) - \\ldots|$", ylim=(3e-18, 30))
    axes.invert_xaxis()
    axes.legend(frameon=False, loc="upper center")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


show(draw_errors(), "03_steps.png") if Figure else None

# %% [markdown]
# The price: every function of the forward pass must accept complex numbers and be smooth. This
# explains two details in `minizha/ops/`: LayerNorm's variance is written as a product, since
# `np.var` takes |c|², and maxima are taken of the real part.
#
# ## 5. An upstream gradient of ones proves nothing
#
# A vector of ones looks simpler than a random u: it is the gradient of `y.sum()`. Many tests use it.
# But in a new model, where w is 1 everywhere, LayerNorm's dx is then 0: dn is 1, its mean
# is 1, and mean(dn·n) = mean(n) = 0. Indeed the sum of a
# normalised vector can't change. So the check accepts a backward function that returns zeros, and
# also this one, which treats the variance as a constant:


# %%
def variance_forgotten(dy, cache):
    n, s, w = cache
    dn = dy * w
    return (dn - mean(dn)) * s, (dy * n).sum(axis=0), dy.sum(axis=0)


def zeros(dy, cache):
    n, _, _ = cache
    return np.zeros_like(dy), (dy * n).sum(axis=0), dy.sum(axis=0)


fresh = (x, np.ones(8), np.zeros(8))
for wrong in (variance_forgotten, zeros):
    print(f"{wrong.__name__}, u of ones:")
    assert check(my_layer_norm, wrong, fresh, np.ones_like(y))
    print(f"{wrong.__name__}, random u:")
    assert not check(my_layer_norm, wrong, fresh, u)

# %% [markdown]
# Softmax has the same blind spot: probabilities sum to 1, so the gradient of their
# sum is 0. Before you trust a check, try it on something wrong.

# %%
p, cache = softmax(x)
assert np.abs(softmax_backward(np.ones_like(p), cache)).max() < 1e-15

# %% [markdown]
# ## 6. Softmax and cross-entropy: p − y
#
# The model computes logits z, one for each word; softmax turns them into probabilities; the loss is
# the negative log-likelihood of the right word t:
#
# $$ p_v = \frac{e^{z_v}}{\sum_k e^{z_k}}, \qquad
#    \ell = -\log p_t = \log \sum_k e^{z_k} - z_t. $$
#
# The derivative of the logarithm of the sum is $e^{z_v} / \sum_k e^{z_k} = p_v$, that of $-z_t$ is −1
# at v = t and 0 elsewhere. With y the one-hot vector of the right word,
#
# $$ dz = p - y. $$
#
# This is the model's answer minus the right answer. It sums to 0 over the vocabulary: what
# the right word gains, the others lose. The loss is the mean over M rows, so dz is divided by M.


# %%
def my_cross_entropy(z, targets):
    z = z - z.real.max(axis=-1, keepdims=True)  # e^z can't overflow; p does not change
    e = np.exp(z)
    total = e.sum(axis=-1)
    rows = np.arange(len(z))
    return (np.log(total) - z[rows, targets]).mean(), (e / total[:, None], targets)


def my_cross_entropy_backward(dloss, cache):
    p, targets = cache
    y = np.eye(p.shape[1])[targets]
    return dloss * (p - y) / len(p)


z, targets = 3 * rng.standard_normal((4, 5)), np.array([0, 3, 3, 1])
report = check_pair(my_cross_entropy, my_cross_entropy_backward, (z, targets))
print(report)
assert report.ok

loss, cache = my_cross_entropy(z, targets)
dz = my_cross_entropy_backward(1.0, cache)
print("dz · M:", dz * len(z), sep="\n")
print(f"sums over the vocabulary: 0, up to {np.abs(dz.sum(axis=-1)).max():.0e}")
assert np.abs(dz.sum(axis=-1)).max() < 1e-15

their_loss, cache = cross_entropy_file.cross_entropy(z, targets)
assert np.isclose(loss, their_loss, rtol=0, atol=1e-14)
assert np.allclose(dz, cross_entropy_file.cross_entropy_backward(1.0, cache), rtol=0, atol=1e-15)

# %% [markdown]
# Would it be simpler to chain two functions, the loss −log p and the softmax? In exact arithmetic
# the result is the same: $dp_t = -1/p_t$, and softmax's backward $p\,(dp - \sum dp\cdot p)$ turns it into
# p − y. In floating point it is not. If the model is sure and wrong, $p_t$ is rounded to 0, −1/0
# is infinite, and ∞·0 is not a number. p − y has no division:

# %%
sure_and_wrong = np.array([[1000.0, 0.0]])
p, cache = softmax(sure_and_wrong)
with np.errstate(divide="ignore", invalid="ignore"):
    chained = softmax_backward(np.array([[0.0, -1.0]]) / p, cache)
loss, cache = my_cross_entropy(sure_and_wrong, [1])
print("in two steps:", chained[0], "  p − y:", my_cross_entropy_backward(1.0, cache)[0])
assert np.isnan(chained).any()
assert (my_cross_entropy_backward(1.0, cache) == [[1.0, -1.0]]).all()
assert loss == 1000.0

# %% [markdown]
# ## 7. The whole model, every parameter
#
# The loss of a model is a function of each single entry of its parameters. Move entry k of a
# parameter by ih, run the model, and the imaginary part of the loss, divided by h, is the derivative
# for this entry. One forward pass for each entry of a small model takes seconds in all.
# `crosscheck.gradcheck` does this with a copy of the model in complex128, and compares the result
# with `out.backward()`.
#
# The weights are larger than those of a new model: at 0.02, attention is nearly uniform, and a
# mistake in it would show in the last digits only.

# %%
config = NezhaConfig(
    vocab_size=11,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_relative_position=2,
    initializer_range=0.5,
)
model = NezhaForPreTraining(config, seed=1, dtype="float64")
batch = {
    "input_ids": [[1, 4, 5, 3, 7, 2, 8], [1, 9, 3, 6, 2, 10, 4]],
    "token_type_ids": [[0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 1]],
    "attention_mask": [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]],
    "labels": [[-100, -100, -100, 6, 7, -100, -100], [-100, 9, 5, -100, -100, -100, -100]],
    "next_sentence_label": [0, 1],
}
started = time.perf_counter()
report = crosscheck.gradcheck(model, batch)
print(report)
print(f"in {time.perf_counter() - started:.1f} s")
assert report.ok
assert report.checked == model.num_parameters()

# %% [markdown]
# A question to test your understanding: why is the gradient of every *key bias* 0? The bias adds
# the same q · b to all scores of a query, and adding a constant to all scores does not change
# their softmax.

# %%
model(**batch).backward()
right = model.gradients()
for name, gradient in right.items():
    if name.endswith("self.key.bias"):
        print(f"{name}: at most {np.abs(gradient).max():.0e}")
        assert np.abs(gradient).max() < 1e-15
    else:
        assert np.abs(gradient).max() > 1e-6

# %% [markdown]
# ## 8. Break a line
#
# In attention's backward pass the query's gradient has two terms, one from the keys and one from the
# relative positions:
#
# ```python
# dquery = dscores @ cache.key + relative_key_backward(dscores, cache.relative_key)
# ```
#
# The forward pass reads T at distance j − i. Let the backward pass read it at i − j, as if the table
# were upside down. All shapes fit, no error is raised, and section 9 shows that it even trains.


# %%
def flipped(dscores, cache):
    return relative_key_backward(dscores, cache._replace(table=cache.table[::-1]))


with mock.patch.object(attention_file, "relative_key_backward", flipped):
    report = crosscheck.gradcheck(model, batch)
    model.zero_grad()
    model(**batch, record=True).backward()  # with a record to read, the plain operations run
    broken = model.gradients()
print(report)
assert not report.ok

# %% [markdown]
# gradcheck names the entry with the largest error. To find the fault, find where the errors begin:
# the backward pass starts at the loss, so all gradients above the fault are right, and the first
# wrong one below is next to it. (We compare with the right gradients, computed above.)

# %%
wrong_names = [
    name for name, g in broken.items() if not np.allclose(g, right[name], rtol=0, atol=1e-12)
]
assert report.name in wrong_names
top = "nezha.encoder.layer.1."
for name in reversed([n for n in right if n.startswith((top, "cls"))]):
    print(f"  {'WRONG' if name in wrong_names else 'right'}  {name}")
assert [n for n in wrong_names if n.startswith(top)] == [
    f"{top}attention.self.query.weight",
    f"{top}attention.self.query.bias",
]
assert not [n for n in wrong_names if n.startswith(("cls", "nezha.pooler"))]
assert "nezha.encoder.layer.0.output.dense.weight" in wrong_names  # all below the fault is wrong

# %% [markdown]
# In the upper layer only the query's two parameters are wrong, so the fault is in the gradient of
# the query. The patch ended with its block, so the line is right again, and gradcheck agrees:

# %%
model.zero_grad()
report = crosscheck.gradcheck(model, batch, entries=5)
print(report)
assert report.ok

# %% [markdown]
# ## 9. Training
#
# With gradients that are right to the last digit, training is easy. The simplest method is
# gradient descent, a small step downhill in every parameter:
#
# $$ \theta \leftarrow \theta - \eta\,\frac{\partial \ell}{\partial \theta}. $$
#
# AdamW divides each step by the running root mean square of its gradient, so that all parameters
# move about equally fast; see `minizha/training/optimizer.py`. Both learn the same batch by heart:


# %%
def descend(update, model, steps):
    losses = []
    for _ in range(steps):
        model.zero_grad()
        out = model(**batch, record=True)
        out.backward()
        update(model.gradients())
        losses.append(float(out.loss))
    return losses


def sgd(model, rate):
    def update(gradients):
        state = model.state_dict()
        model.load_state_dict({name: p - rate * gradients[name] for name, p in state.items()})

    return update


def adamw(model, rate):
    optimizer = AdamW(model, weight_decay=0.0)
    return lambda gradients: optimizer.step(gradients, rate)


STEPS = 61
learners = {}


def learn(name, make, rate):
    learners[name] = NezhaForPreTraining(config, seed=1, dtype="float64")
    losses = descend(make(learners[name], rate), learners[name], STEPS)
    print(f"{name:14} " + "  ".join(f"{x:.4f}" for x in losses[::12]))
    return losses


by_sgd = learn("SGD", sgd, 0.02)
by_adamw = learn("AdamW", adamw, 0.01)
assert by_sgd[-1] < 0.3 * by_sgd[0]
assert by_adamw[-1] < 0.05 * by_adamw[0]

# %% [markdown]
# Which words does the second model predict at the labelled positions?

# %%
labels = np.array(batch["labels"])
out = learners["AdamW"](**batch)
guesses = out.prediction_logits.argmax(axis=-1)[labels != -100]
print("labels:", labels[labels != -100], " predictions:", guesses)
assert (guesses == labels[labels != -100]).all()
assert (out.seq_relationship_logits.argmax(axis=-1) == batch["next_sentence_label"]).all()

# %% [markdown]
# Now train with the broken line of section 8:

# %%
with mock.patch.object(attention_file, "relative_key_backward", flipped):
    by_broken = learn("AdamW, broken", adamw, 0.01)
assert by_broken[-1] < 0.05 * by_broken[0]
assert not np.allclose(by_broken, by_adamw)

# %% [markdown]
# The loss falls all the same. A gradient that is wrong in one term still points roughly downhill,
# so a falling loss does not prove that the gradient is right. A check does.
#
# ## Where to go on
#
# * The backward function of each file in `minizha/ops/` has its derivation in the docstring; read
#   the files in the order of the README. `minizha/nezha/attention.py` and `encoder.py` compose
#   them; there gradients also reach a decoder's past and the encoder.
# * `minizha/crosscheck/gradient_checks.py` is the complete version of the check on this page.
#
# To try: write GELU, `x · Φ(x)`, and its backward function, and check them with `check_pair`. NumPy has
# no Φ and no erf, and `math.erf` takes no complex numbers: use `normal_cdf` and `normal_pdf` of
# `minizha/ops/gelu.py`, which the complex step can cross. Break another line
# of attention's backward, and predict which names will be wrong before you look.
