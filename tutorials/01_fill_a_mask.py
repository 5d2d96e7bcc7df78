# %% [markdown]
# # Fill a mask
#
# **What you'll do.** Hide a character of a sentence, and let a small trained NEZHA guess it. Turn the
# sentence into numbers, and compute the guess from what the model returns. Compute attention weights
# and the loss by hand, and find the same numbers as the model. Then train a smaller NEZHA on a novel
# for about twenty seconds.
#
# **What you'll learn.** What a tokenizer, [MASK] and logits are; how logits become a
# probability and a loss; what the label −100 means; what attention weights are; what
# next-sentence prediction is; what a model learns first when it is trained.
#
# **What you need.** minizha, and matrix products. You need no Chinese: the words that
# matter are translated. matplotlib draws a picture if it is installed. To use another model, pass its
# folder: `python 01_fill_a_mask.py minizha-sanguo` uses the one that `minizha pretrain` saves.
#
# ## 1. A first guess
#
# minizha includes a small trained model. `load_shipped` loads it, with its tokenizer.
# `fill_mask` returns the likeliest characters for [MASK], and their probabilities.
# The sentence is 玄德大喜: Xuande was overjoyed. 玄德 is the name of one of the heroes, Liu Bei.
# We hide its second character:

# %%
import os
import sys

# one thread for each matrix product: dividing products this small among threads costs more time
# than it saves (this must come before NumPy is imported)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from minizha import NezhaForPreTraining, fill_mask, load_shipped
from minizha.predict import load_for_text

# the folder of another model, if the script was given one; a notebook's sys.argv is its own
folder = sys.argv[1] if "__file__" in globals() and len(sys.argv) > 1 else None
if folder:
    print(f"using the model in {folder}")
    model, tokenizer = load_for_text(NezhaForPreTraining, folder)
else:
    model, tokenizer = load_shipped()

question = "玄[MASK]大喜"
guesses = fill_mask(model, tokenizer, question, top_k=5)[0]
for token, probability in guesses:
    print(f"  {token}  {probability:.3f}  {'█' * round(40 * probability)}")
if not folder:  # another model may know less
    assert guesses[0].token == "德"

# %% [markdown]
# The model gives 德 by far the highest probability. How does it know? It was trained on a novel:
# 三国演义, the Romance of the Three Kingdoms, in 120 chapters. Every twelfth chapter was held out, to
# test the model later on sentences that it has never seen. In the rest it has met 玄德 many times.
#
# More questions:

# %%
questions = {
    "孔明[MASK]：“主公勿忧。”": "Kongming …: 'My lord, don't worry.'  曰: said",
    "曹[MASK]引兵来攻。": "Cao … led his troops to the attack.  操: Cao Cao",
    "曹操引[MASK]来攻。": "Cao Cao led his … to the attack.  兵, 军: troops",
    "张[MASK]大怒，挺矛便刺。": "Zhang … was furious, and thrust his spear.  飞: Zhang Fei",
    "今天天气很[MASK]。": "The weather is very … today.  好: good",
}


def ask(model, tokenizer):
    """The five likeliest tokens for each question, printed with their probabilities."""
    answers = []
    for question, meaning in questions.items():
        five = fill_mask(model, tokenizer, question, top_k=5)[0]
        print(f"{question}   {meaning}")
        print("    " + "  ".join(f"{g.token} {g.probability:.2f}" for g in five))
        answers.append([g.token for g in five])
    return answers


said, cao, troops, zhang, _ = ask(model, tokenizer)
if not folder:
    assert said[0] == "曰"
    assert "操" in cao
    assert troops[0] in ("兵", "军")
    assert "飞" in zhang

# %% [markdown]
# Where several answers are possible, the model spreads its probability over them: many generals of
# the novel are called Cao or Zhang. The last sentence is one of today. The model has read a single
# book, which is about five hundred years old. It knows the names and turns of phrase of this book,
# and little else.
#
# How does a sentence become a guess? The rest of this tutorial goes through it, step by step.

# %%
import time
from pathlib import Path

import numpy as np

from minizha import next_sentence_probability
from minizha.ops.layer_norm import layer_norm
from minizha.ops.linear import linear
from minizha.ops.relative_position import relative_key, relative_value
from minizha.ops.softmax import softmax
from minizha.shipped import SHIPPED_FOLDER
from minizha.text.masking import mask_tokens
from minizha.training.evaluation import evaluate, mean_metrics
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import new_model, prepare, train

try:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager
except ImportError:
    Figure = None
    print("matplotlib is not installed: no picture, everything else runs")

HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
FONT = HERE / "fonts" / "NotoSansCJKsc-subset.otf"  # has Chinese characters
np.set_printoptions(precision=3, suppress=True, linewidth=100)

# %% [markdown]
# ## 2. Characters become numbers
#
# A model reads numbers. The *vocabulary* is a numbered list of the units that it distinguishes.
# Chinese characters are a good choice: a few thousand of them make up nearly all written text.
# Our vocabulary consists of the characters that occur at least twice in the chapters that the model
# was trained on.

# %%
print(f"vocabulary: {len(tokenizer):,} tokens")
print("the first ones:", *tokenizer.convert_ids_to_tokens(list(range(16))))

# %% [markdown]
# First come five tokens that no novel contains:
#
# | token | use |
# |---|---|
# | [PAD] | fills up the shorter texts of a batch |
# | [UNK] | stands for a character that is not in the vocabulary |
# | [CLS] | begins every text; its vector represents the whole text |
# | [SEP] | ends each segment |
# | [MASK] | hides a token that the model has to guess |
#
# The characters follow, the most frequent first. A *tokenizer* cuts a text into tokens and looks up
# their numbers:

# %%
text = "玄德大喜"
batch = tokenizer(text)
ids = batch["input_ids"][0]
print(text, "→", ids, "→", " ".join(tokenizer.convert_ids_to_tokens(ids)))
assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "玄", "德", "大", "喜", "[SEP]"]
assert tokenizer.decode(ids, skip_special_tokens=True) == "玄 德 大 喜"

# %% [markdown]
# The result is a batch, one row for each text. It has two more arrays of the same
# shape: `attention_mask` is 1 on text and 0 on padding, and `token_type_ids` is 0
# in the first segment and 1 in the second.

# %%
two = tokenizer(["玄德大喜", "曰"], ["曹操大怒", "玄德"])
for name, array in two.items():
    print(f"{name} {array.shape}:", array, sep="\n")
assert (two["attention_mask"] == (two["input_ids"] != tokenizer.pad_token_id)).all()

# %% [markdown]
# ## 3. Masking
#
# How can a model learn a language without a teacher? Hide a token and guess it: the text itself
# holds the answer. BERT, and NEZHA after it, choose 15 % of the tokens at random.
# Of the chosen tokens, 80 % become [MASK], 10 % become a random token and 10 % stay unchanged.
# So the model must predict well at every token, not only at [MASK].
#
# The *labels* hold the answers: the original id where a token was chosen, and −100 everywhere
# else, which means "ignored". A label of −100 adds nothing to the loss.

# %%
rng = np.random.default_rng(0)
sentence = tokenizer("却说玄德大喜，遂引兵来迎曹操。")["input_ids"]
masked, labels = mask_tokens(
    sentence,
    tokenizer.special_ids,
    rng,
    mask_token_id=tokenizer.mask_token_id,
    vocab_size=len(tokenizer),
    at_least_one=True,
)
print("text:  ", *tokenizer.convert_ids_to_tokens(sentence[0]))
print("input: ", *tokenizer.convert_ids_to_tokens(masked[0]))
print("labels:", *(tokenizer.convert_ids_to_tokens(i) if i != -100 else "·" for i in labels[0]))

many, many_labels = mask_tokens(
    np.repeat(sentence, 5000, axis=0),
    tokenizer.special_ids,
    rng,
    mask_token_id=tokenizer.mask_token_id,
    vocab_size=len(tokenizer),
)
chosen = many_labels != -100
hidden = (many[chosen] == tokenizer.mask_token_id).mean()
same = (many[chosen] == many_labels[chosen]).mean()
print(f"of those chosen: {hidden:.1%} [MASK], {same:.1%} unchanged, {1 - hidden - same:.1%} random")
assert abs(hidden - 0.8) < 0.02
assert abs(same - 0.1) < 0.02
assert (many[~chosen] == np.repeat(sentence, 5000, axis=0)[~chosen]).all()

# %% [markdown]
# ## 4. From logits to probabilities
#
# The model returns *logits*: for each position of the text, one number for each token of the
# vocabulary. A larger logit means a likelier token. Softmax turns logits into probabilities:
#
# $$ p_v = \frac{e^{z_v}}{\sum_k e^{z_k}}. $$
#
# So we can compute the first guess ourselves:

# %%
batch = tokenizer(question)
out = model(**batch)
logits = out.prediction_logits  # (B, L, V)
print("logits:", logits.shape)

place = int(np.flatnonzero(batch["input_ids"][0] == tokenizer.mask_token_id)[0])
z = logits[0, place].astype(np.float64)
p = np.exp(z - z.max())  # a constant cancels in the quotient, and nothing overflows
p /= p.sum()
best = np.argsort(-p)[:5]
for token, i in zip(tokenizer.convert_ids_to_tokens(best), best, strict=True):
    print(f"  {token}  logit {z[i]:6.2f}  probability {p[i]:.3f}")

assert [g.token for g in guesses] == tokenizer.convert_ids_to_tokens(best)
assert np.allclose([g.probability for g in guesses], p[best], atol=1e-5)

# %% [markdown]
# ## 5. Attention
#
# The model turns ids into logits by attention. Each token becomes a vector, an *embedding*. From it
# each *head* computes a query, a key and a value. Each query then takes an average of all values,
# weighted by how well it matches their keys. Only attention passes information from
# one token to another. The model returns the weights with `output_attentions=True`:

# %%
sentence = "却说玄[MASK]大喜，遂引兵来迎。"
batch = tokenizer(sentence)
tokens = tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
out = model(**batch, output_attentions=True)
weights = out.attentions[0]  # of the first layer, (B, N, L, L)
print("attention weights:", weights.shape, "one row for each query, each sums to 1")
assert np.allclose(weights.sum(axis=-1), 1, atol=1e-5)

hole = tokens.index("[MASK]")
print(f"from {tokens[hole]}, the three largest weights of each head (and their distances):")
for head, row in enumerate(weights[0, :, hole]):
    top = np.argsort(-row)[:3]
    print(f"  head {head}: " + "   ".join(f"{tokens[j]} {row[j]:.2f} ({j - hole:+d})" for j in top))

# %% [markdown]
# Now compute the same weights by hand, from the model's parameters. The embedding of a token is its
# row of a table, plus a row for the segment, normalised. It does not depend on the token's
# *position*. Positions enter in the scores, as a vector R for the distance from query to key
# (tutorial 02):
#
# $$ s_{ij} = \frac{q_i \cdot (k_j + R_{ij})}{\sqrt d}, \qquad P = \mathrm{softmax}(s). $$

# %%
weight = model.state_dict()
config = model.config
N, L = config.num_attention_heads, len(tokens)


def dense(x, name):
    return linear(x, weight[f"{name}.weight"], weight[f"{name}.bias"])[0]


embeddings = "nezha.embeddings."
x = weight[embeddings + "word_embeddings.weight"][batch["input_ids"]]
x = x + weight[embeddings + "token_type_embeddings.weight"][batch["token_type_ids"]]
norm = embeddings + "LayerNorm."
x, _ = layer_norm(x, weight[norm + "weight"], weight[norm + "bias"], config.layer_norm_eps)

layer = "nezha.encoder.layer.0.attention.self."
query = dense(x, layer + "query").reshape(1, L, N, -1).swapaxes(1, 2)  # (B, N, L, d)
key = dense(x, layer + "key").reshape(1, L, N, -1).swapaxes(1, 2)
from_key = query @ key.swapaxes(-1, -2)
from_distance, _ = relative_key(query, model.table, L)
by_hand, _ = softmax((from_key + from_distance) / config.head_size**0.5)

print(f"by hand and from the model: equal up to {np.abs(by_hand - weights).max():.0e}")
assert np.allclose(by_hand, weights, atol=1e-5)

# %% [markdown]
# One head may look for certain characters, another for certain places. Some heads attend mainly to
# the token on the left, whatever it is. From [MASK], such a head finds 玄, and after 玄 the novel
# hardly ever has anything but 德. Such a head can be in any layer. To find it, sum the
# weights by distance instead of by key (`relative_value` with the unit matrix as its table does
# that), and take the mean over all queries of the sentence:

# %%
K = config.max_relative_position
reach = min(K, L - 1)
per_layer = []
for layer_weights in out.attentions:
    table = np.eye(2 * K + 1, dtype=layer_weights.dtype)
    by_distance, _ = relative_value(layer_weights[0], table)  # (N, L, 2K+1)
    per_layer.append(by_distance.mean(axis=1)[:, K - reach : K + reach + 1])
share = np.stack(per_layer)  # (layers, N, distances)
assert np.allclose(share.sum(axis=-1), 1, atol=1e-5)

at_hole = np.stack([layer_weights[0, :, hole] for layer_weights in out.attentions])
for neighbour in (-1, +1) if K else ():  # with K = 0 there is only one distance
    means = share[:, :, reach + neighbour]
    layer, head = np.unravel_index(means.argmax(), means.shape)
    print(
        f"distance {neighbour:+d}: most in head {head} of layer {layer}, {means.max():.2f} of its weight"
        f" on average, {at_hole[layer, head, hole + neighbour]:.2f} from {tokens[hole]}"
    )
if not folder:
    assert tokens[hole - 1] == "玄"
    assert at_hole[:, :, hole - 1].max() > 0.5  # some head finds 玄
    assert share[:, :, reach - 1].max() > 3 / L  # and some head looks left from many tokens

# %% [markdown]
# In the picture, $P^{(\ell, h)}$ are the weights of head h of layer ℓ. Above are four heads of the first
# layer, with a row for each query i and a column for each key j. Below, each row is a head of the
# model, and each column a distance: the darker, the larger the mean weight.


# %% mystnb={"image": {"alt": "Four square heat maps, one for each head of the first layer, with the tokens of the sentence on both axes. Below them a heat map with a row for each head of the model and a column for each distance j − i. The darkest cells are close to distance 0."}}
def draw_attention():
    labels, font = range(L), {}  # without the font, a token is shown by its number
    if FONT.is_file():
        fontManager.addfont(FONT)
        labels, font = tokens, {"fontfamily": "Noto Sans CJK SC"}
    figure = Figure(figsize=(6, 9), layout="constrained")
    panels = figure.subplot_mosaic([[0, 1], [2, 3], ["by distance"] * 2], height_ratios=[3, 3, 4])
    for head in range(min(N, 4)):
        axes = panels[head]
        axes.imshow(weights[0, head], cmap="Blues", vmin=0, interpolation="none")
        axes.set(title=f"$P^{{(0, {head})}}$", xlabel="$j$", ylabel="$i$")
        axes.set_xticks(range(L), labels, rotation=90, **font)
        axes.set_yticks(range(L), labels, **font)
    axes = panels["by distance"]
    layers, heads, _ = share.shape
    axes.imshow(
        share.reshape(layers * heads, -1),
        cmap="Blues",
        vmin=0,
        interpolation="none",
        aspect="auto",
        extent=(-reach - 0.5, reach + 0.5, layers * heads - 0.5, -0.5),
    )
    names = [f"$P^{{({layer}, {head})}}$" for layer in range(layers) for head in range(heads)]
    axes.set_yticks(range(layers * heads), names)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("$j - i$")
    return figure


def show(figure, name):
    """As a script, save the picture; a notebook shows the figure that a cell ends with."""
    if "__file__" in globals():
        figure.savefig(HERE / name, dpi=120)
        print(f"picture: {name}; the tokens are, from 0:", *tokens)
    return figure


show(draw_attention(), "01_attention.png") if Figure else None

# %% [markdown]
# ## 6. The loss, by hand
#
# If you pass labels, the model returns a loss: the mean negative log-likelihood of the right
# answers, over the labelled positions. The logarithm is the natural one, so the unit is the *nat*.
# Hide two characters and label both:

# %%
truth = tokenizer("却说玄德大喜，遂引兵来迎。")["input_ids"]
question = tokenizer("却说玄[MASK]大[MASK]，遂引兵来迎。")
labels = np.where(question["input_ids"] == tokenizer.mask_token_id, truth, -100)
out = model(**question, labels=labels)

_, places = np.nonzero(labels != -100)
z = out.prediction_logits[0, places].astype(np.float64)
z -= z.max(axis=-1, keepdims=True)
log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
nll = -log_p[np.arange(len(places)), labels[0, places]]
for place, nats in zip(places, nll, strict=True):
    answer = tokenizer.convert_ids_to_tokens(truth[0, place])
    print(f"{answer}: p = {np.exp(-nats):.3f}, −log p = {nats:.3f} nats")
print(f"their mean: {nll.mean():.5f}    out.loss: {float(out.loss):.5f}")
assert np.isclose(nll.mean(), float(out.loss), atol=1e-4)

# %% [markdown]
# Why must the other labels be −100, and not 0, or the token itself? 0 is the id of [PAD], and would
# be learnt as an answer. And a visible token is no question, but it would count in the mean.
# If all labels are −100, there is nothing to learn, and the loss is 0.

# %%
all_labelled = model(**question, labels=truth)
all_ignored = model(**question, labels=np.full_like(truth, -100))
print(f"all {truth.size} tokens labelled: loss {float(all_labelled.loss):.3f}")
print(f"all ignored: loss {float(all_ignored.loss)}")
assert not np.isclose(float(all_labelled.loss), float(out.loss), atol=1e-3)
assert float(all_ignored.loss) == 0.0

# %% [markdown]
# ## 7. Does B follow A?
#
# The second task of pre-training: given two segments, does the second continue the first, or was it
# drawn at random? Two logits are computed from the vector of [CLS]. **Label 0 is "B follows A",
# label 1 "B is random".** The loss is added to that of the masked tokens, unweighted.

# %%
first, second = "玄德大喜，遂引兵来迎。", "曹操大怒，急令退兵。"
pair = tokenizer(first, second)
out = model(**pair, next_sentence_label=[0])
p_next, _ = softmax(out.seq_relationship_logits.astype(np.float64))
print(
    f"B follows: {p_next[0, 0]:.3f}    B is random: {p_next[0, 1]:.3f}    loss {float(out.loss):.3f}"
)
assert np.isclose(float(out.loss), -np.log(p_next[0, 0]), atol=1e-5)
assert np.isclose(
    next_sentence_probability(model, tokenizer, first, second), p_next[0, 0], atol=1e-5
)

labels = np.full_like(pair["input_ids"], -100)
labels[0, 1] = pair["input_ids"][0, 1]
both = model(**pair, labels=labels, next_sentence_label=[0])
words_only = model(**pair, labels=labels)
assert np.isclose(float(both.loss), float(words_only.loss) + float(out.loss), atol=1e-4)

# %% [markdown]
# ## 8. How often is it right?
#
# One answer proves little. The held-out chapters provide thousands of questions: 15 % of their
# characters are hidden, and in about half of the pairs of segments the second follows the first.
# `minizha evaluate` asks the same questions and prints the same figures.

# %%
held_out_options = PretrainOptions(vocab=str(Path(folder or SHIPPED_FOLDER) / "vocab.txt"))
held_out = prepare(None, held_out_options).held_out
known = evaluate(model, held_out)
print("on chapters never seen:")
print(
    f"  characters: right {known.word_accuracy:.1%} of {known.words:,}, loss {known.word_loss:.2f}"
)
print(
    f"  pairs:      right {known.pair_accuracy:.1%} of {known.pairs:,}, loss {known.pair_loss:.3f}"
)
if not folder:
    assert known.word_accuracy > 0.3
    assert known.pair_accuracy > 0.54
    assert known.pair_loss < np.log(2)

# %% [markdown]
# A tossed coin is right on half of the pairs, and its loss is log 2 = 0.693. The model does better
# than the coin, but it is often wrong. Whether two segments belong together is much harder to
# say than which character follows 玄. So don't trust its answer on a single pair.
#
# And the characters: is the share of right ones large or small? To judge it, compare it with the
# shares of simpler models.
#
# ## 9. Train one yourself
#
# A model that knows nothing gives each of V tokens the probability 1/V, and its loss is log V. A model
# that knows only how frequent each character is does better: it always predicts the comma. A new
# model begins like the first, soon is like the second, and then learns from the context. Watch
# its loss fall.
#
# Ours is tiny: one layer of 96 features. It reads short segments and has to guess 25 % of the
# characters, to learn the most in little time. It sees the same chapters as the shipped model and
# has the same vocabulary, so both can answer the same questions.

# %%
if folder:
    sys.exit()  # another model was given: the comparison below is with the shipped one

options = PretrainOptions(
    vocab=held_out_options.vocab,
    steps=1000,
    batch_size=16,
    length=32,
    hidden_size=96,
    layers=1,
    heads=4,
    intermediate_size=192,
    max_relative_position=16,
    learning_rate=4e-3,
    weight_decay=0.0,
    mask_probability=0.25,
)
data = prepare(None, options)
tiny = new_model(data, options)
print(f"{data.documents} chapters, {data.characters:,} characters")
print(f"{tiny.num_parameters():,} parameters; the shipped model has {model.num_parameters():,}")
print(f"log V = {np.log(len(tokenizer)):.2f} nats")

started, recent = time.perf_counter(), []
for step, metrics in enumerate(train(tiny, data, options), start=1):
    recent.append(metrics)
    if step == 1 or step % 125 == 0:
        now, recent = mean_metrics(recent), []
        print(
            f"step {step:5}: loss {now.word_loss:.2f}, right {now.word_accuracy:5.1%}"
            f"   ({time.perf_counter() - started:.0f} s)",
            flush=True,
        )
    if step == 1:
        assert abs(now.word_loss - np.log(len(tokenizer))) < 0.5  # it knows nothing yet

# %% [markdown]
# The model that knows only frequencies needs no training: count the characters of the chapters that
# the others were trained on. Now all of them answer the questions of section 8.

# %%
text_ids = data.sampler.batch(4000, rng)["input_ids"]
frequency = np.bincount(text_ids.ravel(), minlength=len(tokenizer)) + 1.0
frequency[list(tokenizer.special_ids)] = 0
frequency /= frequency.sum()
assert tokenizer.convert_ids_to_tokens(int(frequency.argmax())) == "，"

answers = held_out["labels"][held_out["labels"] != -100]
by_frequency = -np.log(frequency[answers]).mean()
comma_share = (answers == frequency.argmax()).mean()
learnt = evaluate(tiny, held_out)
print(f"the {len(answers):,} hidden characters of chapters never seen:")
print(
    f"  knows nothing:          loss {np.log(len(tokenizer)):.2f}, right {1 / len(tokenizer):5.1%}"
)
print(f"  knows only frequencies: loss {by_frequency:.2f}, right {comma_share:5.1%}")
print(f"  the tiny model:         loss {learnt.word_loss:.2f}, right {learnt.word_accuracy:5.1%}")
print(f"  the shipped model:      loss {known.word_loss:.2f}, right {known.word_accuracy:5.1%}")
assert by_frequency < np.log(len(tokenizer)) - 1
assert learnt.word_loss < by_frequency - 0.4
assert learnt.word_accuracy > 2 * comma_share
assert known.word_loss < learnt.word_loss - 0.4
print(f"pairs: the tiny model right {learnt.pair_accuracy:.1%}, loss {learnt.pair_loss:.3f}")
assert abs(learnt.pair_loss - np.log(2)) < 0.05

# %% [markdown]
# On the pairs, the tiny model is no better than the coin: it has not had the time to learn this. Yet
# it has learnt names and turns of phrase. Ask it the questions of section 1:

# %%
said, cao, troops, *_ = ask(tiny, tokenizer)
assert "曰" in said
assert "操" in cao
assert set(troops) & {"兵", "军"}

# %% [markdown]
# ## Where to go on
#
# * Tutorial 02: where positions enter, since the embeddings do not hold them.
# * Tutorial 03: how to derive the gradient of this loss by hand, and check it.
# * `minizha pretrain` trains for two to six minutes on two cores, and saves a folder that
#   this script can use. The released base model of NEZHA has twelve layers of 768 features.
#
# To try: hide a character of a sentence that you know. Fill `model.table` with zeros and repeat
# section 1: which guesses remain right? Train with `layers=2` for three times as many steps.
