# %% [markdown]
# # Fill a mask
#
# **What you'll do.** Turn a sentence into numbers, hide a character of it, train a small NEZHA
# on a novel for less than half a minute, and let it guess the hidden character. Then compute its
# attention weights and its loss by hand, and find the same numbers.
#
# **What you'll learn.** What a tokenizer, [MASK] and logits are; how logits become a
# probability and a loss; what the label −100 means; what attention weights are; what
# next-sentence prediction is.
#
# **What you need.** minizha, and matrix products. You need no Chinese: the words that
# matter are translated. matplotlib draws a picture if it is installed. If you
# have run `minizha pretrain`, pass its folder, `python 01_fill_a_mask.py minizha-sanguo`, to use
# that model instead. The script uses a folder `minizha-sanguo` in the current folder by itself.

# %%
import os
import sys
import time
from pathlib import Path

# one thread for each matrix product: dividing products this small among threads costs more time
# than it saves (this must come before NumPy is imported)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from minizha import NezhaForPreTraining, fill_mask, next_sentence_probability
from minizha.ops.layer_norm import layer_norm
from minizha.ops.linear import linear
from minizha.ops.relative_position import relative_key, relative_value
from minizha.ops.softmax import softmax
from minizha.predict import load_for_text
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
# ## 1. A novel, and a vocabulary
#
# A model reads numbers. The *vocabulary* is a numbered list of the units that it distinguishes.
# Chinese characters are a good choice: a few thousand of them make up nearly all written text.
# minizha includes a novel to learn from: 三国演义, the Romance of the Three Kingdoms, in 120 chapters.
# We hold out every twelfth chapter, to test the model later on sentences that it has never seen.
# The vocabulary consists of the characters that occur at least 30 times in the other chapters.

# %%
as_script = "__file__" in globals()  # in a notebook, sys.argv is the notebook's own
named = sys.argv[1] if as_script and len(sys.argv) > 1 else "minizha-sanguo"
folder = named if (Path(named) / "config.json").is_file() else None

if folder:
    print(f"using the model in {folder}")
    model, tokenizer = load_for_text(NezhaForPreTraining, folder)
else:
    print(f"no model in {named}: training a small one here, for half a minute or so")
    options = PretrainOptions(
        steps=1400,
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
        min_count=30,
    )
    data = prepare(None, options)
    tokenizer = data.tokenizer
    print(f"{data.documents} chapters, {data.characters:,} characters")
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
text = "玄德大喜"  # Xuande was overjoyed. 玄德 is a name: Liu Bei, one of the heroes
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
# ## 2. Masking
#
# How can a model learn a language without a teacher? Hide a word and guess it: the text itself
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
# ## 3. Half a minute of training
#
# The loss of a prediction is the negative log-likelihood of the right answer, $-\log p$, in nats.
# A model that knows nothing gives each of V tokens the probability 1/V, and its loss is log V. A
# model that knows only how frequent each character is does better: it always predicts the comma.
# Ours begins as the first, soon becomes the second, and then learns from the context.
#
# (Ours is tiny, one layer of 96 features, and has to guess 25 % of the characters, to learn the most
# in little time. `minizha pretrain` trains a better one in a few minutes; the released base model
# has twelve layers of 768 features.)

# %%
if not folder:
    model = new_model(data, options)
    print(f"{model.num_parameters():,} parameters; log V = {np.log(len(tokenizer)):.2f} nats")

    # the model that knows only frequencies, on the held-out chapters
    text_ids = data.sampler.batch(4000, rng)["input_ids"]
    frequency = np.bincount(text_ids.ravel(), minlength=len(tokenizer)) + 1.0
    frequency[list(tokenizer.special_ids)] = 0
    frequency /= frequency.sum()
    answers = data.held_out["labels"][data.held_out["labels"] != -100]
    by_frequency = -np.log(frequency[answers]).mean()
    comma_share = (answers == frequency.argmax()).mean()
    assert tokenizer.convert_ids_to_tokens(int(frequency.argmax())) == "，"

    started, recent = time.perf_counter(), []
    for step, counts in enumerate(train(model, data, options), start=1):
        recent.append(counts)
        if step % 175 == 0:
            now, recent = mean_metrics(recent), []
            print(
                f"step {step:5}: loss {now.word_loss:.2f}, right {now.word_accuracy:5.1%}"
                f"   ({time.perf_counter() - started:.0f} s)",
                flush=True,
            )

    known = evaluate(model, data.held_out)
    print("on chapters never seen:")
    print(f"  by frequency alone: loss {by_frequency:.2f}, right {comma_share:.1%}")
    print(f"  the model:          loss {known.word_loss:.2f}, right {known.word_accuracy:.1%}")
    assert known.word_loss < by_frequency - 0.4 < np.log(len(tokenizer)) - 0.4
    assert known.word_accuracy > 2 * comma_share

# %% [markdown]
# ## 4. Guess
#
# The model returns *logits*: for each position of the text, one number for each token of the
# vocabulary. A larger logit means a likelier token. Softmax turns logits into probabilities:
#
# $$ p_v = \frac{e^{z_v}}{\sum_k e^{z_k}}. $$

# %%
question = "玄[MASK]大喜"  # Xuan… was overjoyed
batch = tokenizer(question)
out = model(**batch)
logits = out.prediction_logits  # (B, L, V)
print("logits:", logits.shape)

place = int(np.flatnonzero(batch["input_ids"][0] == tokenizer.mask_token_id)[0])
z = logits[0, place].astype(np.float64)
p = np.exp(z - z.max())  # a constant cancels in the quotient, and nothing overflows
p /= p.sum()
best = np.argsort(-p)[:5]
for token, probability in zip(tokenizer.convert_ids_to_tokens(best), p[best], strict=True):
    print(f"  {token}  {probability:.3f}  {'█' * round(40 * probability)}")

by_library = fill_mask(model, tokenizer, question, top_k=5)[0]
assert [g.token for g in by_library] == tokenizer.convert_ids_to_tokens(best)
assert np.allclose([g.probability for g in by_library], p[best], atol=1e-5)

# %% [markdown]
# More questions. A small model that was trained for half a minute knows names, some turns of
# phrase, and little else. Where it is unsure, it spreads its probability over many tokens.

# %%
questions = {
    "孔明[MASK]：“主公勿忧。”": "Kongming …: 'My lord, don't worry.'  曰: said",
    "曹[MASK]引兵来攻。": "Cao … led his troops to the attack.  操: Cao Cao",
    "曹操引[MASK]来攻。": "Cao Cao led his … to the attack.  兵, 军: troops",
    "张[MASK]大怒，挺矛便刺。": "Zhang … was furious, and thrust his spear.  飞: Zhang Fei",
}
guesses = {}
for question, meaning in questions.items():
    guesses[question] = fill_mask(model, tokenizer, question, top_k=5)[0]
    print(f"{question}   {meaning}")
    print("    " + "  ".join(f"{g.token} {g.probability:.2f}" for g in guesses[question]))

if not folder:  # what a model trained here must know
    said, cao, troops, _ = ({g.token for g in five} for five in guesses.values())
    assert "德" in tokenizer.convert_ids_to_tokens(best)
    assert "曰" in said
    assert "操" in cao
    assert troops & {"兵", "军"}

# %% [markdown]
# ## 5. Attention
#
# The model turns ids into logits by attention. Each token becomes a vector, an *embedding*. From it
# each head computes a query, a key and a value. Each query then takes an average of all values,
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
# In a model trained here, some head has learnt to attend to the token on the left. It finds 玄, and
# after that character there is hardly ever anything but 德.

# %%
if not folder:
    assert tokens[hole - 1] == "玄"
    assert hole - 1 in weights[0, :, hole].argmax(axis=-1)

# %% [markdown]
# The same by hand, from the model's parameters. The embedding of a token is its row of a table,
# plus a row for the segment, normalised. It does not depend on the token's *position*. Positions
# enter in the scores, as a vector R for the distance from query to key (tutorial 02):
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
# Which distances does each head prefer? Sum the weights by distance instead of by key
# (`relative_value` with the unit matrix as its table does that), over all queries of the sentence.
# The picture shows each head's weights, a row for each query i and a column for each key j, and below
# them the mean weight by distance.

# %%
K = config.max_relative_position
by_distance, _ = relative_value(weights[0], np.eye(2 * K + 1, dtype=weights.dtype))
reach = min(K, L - 1)
share = by_distance.mean(axis=1)[:, K - reach : K + reach + 1]  # (N, distances)
print("head   preferred distance, and its share of the weight")
for head, row in enumerate(share):
    print(f"{head:4}   {row.argmax() - reach:+3d}   {row.max():.2f}")
assert np.allclose(share.sum(axis=-1), 1, atol=1e-5)


# %% mystnb={"image": {"alt": "Four square heat maps, one for each head, with the tokens of the sentence on both axes, and below them four curves, each head's mean weight over the distance j − i. Most curves have a peak near distance 0."}}
def draw_attention():
    labels, font = range(L), {}  # without the font, a token is shown by its number
    if FONT.is_file():
        fontManager.addfont(FONT)
        labels, font = tokens, {"fontfamily": "Noto Sans CJK SC"}
    figure = Figure(figsize=(6, 7.8), layout="constrained")
    panels = figure.subplot_mosaic([[0, 1], [2, 3], ["by distance"] * 2], height_ratios=[3, 3, 2])
    for head in range(min(N, 4)):
        axes = panels[head]
        axes.imshow(weights[0, head], cmap="Blues", vmin=0, interpolation="none")
        axes.set(title=f"$P^{{({head})}}$", xlabel="$j$", ylabel="$i$")
        axes.set_xticks(range(L), labels, rotation=90, **font)
        axes.set_yticks(range(L), labels, **font)
    axes = panels["by distance"]
    for head, row in enumerate(share[:4]):
        axes.plot(np.arange(-reach, reach + 1), row, ".-", lw=1, label=f"$P^{{({head})}}$")
    axes.set_xlabel("$j - i$")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
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
# answers, over the labelled positions. Hide two characters and label both:

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
# label 1 "B is random".** The loss is added to that of the masked words, unweighted.

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
# Don't trust this answer yet. Whether two sentences belong together is much harder to say than
# which character follows 玄, and half a minute of training is not enough to learn it. The loss of
# tossing a coin is log 2 = 0.693, and a model trained here is no better:

# %%
if not folder:
    print(
        f"held out: loss {known.pair_loss:.3f}, right {known.pair_accuracy:.1%} of {known.pairs:,}"
    )
    assert abs(known.pair_loss - np.log(2)) < 0.05

# %% [markdown]
# ## Where to go on
#
# * Tutorial 02: where positions enter, since the embeddings do not hold them.
# * Tutorial 03: how to derive the gradient of this loss by hand, and check it.
# * `minizha pretrain` trains for two and a half to six minutes on two cores, and saves a folder that
#   this script can use.
#
# To try: mask a character of a modern sentence. Fill `model.table` with zeros and repeat section 4:
# which guesses remain right? Train with `layers=2` for three times as many steps.
