"""The forward pass as steps: each array of a trace from those before it, under given rules.

So any array can be computed from whichever earlier ones the other side has shown: those that it has
not shown are computed on the way. (``….sum``, what a LayerNorm reads, is a step that no trace has.)

Letters, here and in the way back: f the facts, r the rules, a the attention at hand and p its prefix,
i the layer, x and h the names of what a layer and its second half read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import Facts, Place
from minizha.crosscheck.diagnosis.rules import Array


class Step(NamedTuple):
    """``compute`` makes an array from those named in ``needs``."""

    needs: tuple[str, ...]
    compute: Callable[..., Array]


Steps = dict[str, Step]
UNPOOLED = ("MaskedLM", "TokenClassification", "QuestionAnswering")


def evaluate(
    steps: Mapping[str, Step], name: str, known: Mapping[str, Array], memory: dict[str, Array]
) -> Array:
    """The array ``name``, itself computed, from what is ``known``.

    Raises:
        KeyError: something that is needed is neither known nor can be computed.
    """
    step = steps[name]
    arguments = []
    for need in step.needs:
        if need not in memory:
            if need in known:
                memory[need] = np.asarray(known[need], np.float64)
            else:
                memory[need] = evaluate(steps, need, known, memory)
        arguments.append(memory[need])
    return step.compute(*arguments)


def forward_steps(f: Facts, r: Rules) -> Steps:
    """The steps of the model that ``f`` is about, in execution order."""
    steps = _embeddings(f, r)
    x = "embeddings"
    for i in range(f.config.num_hidden_layers):
        steps |= _layer(f, r, i, x)
        x = f"encoder.layer.{i}"
    return steps | _heads(f, r, x)


def linear(f: Facts, r: Rules, name: str) -> Callable[[Array], Array]:
    """The linear map called ``name``, with whichever parameters it reads."""

    def compute(x: Array) -> Array:
        own = r.parameter(name, f)
        return r.linear(x, f.parameter(f"{own}.weight"), f.parameter(f"{own}.bias"))

    return compute


def _norm(f: Facts, r: Rules, name: str, place: str) -> Callable[[Array], Array]:
    def compute(x: Array) -> Array:
        own = r.parameter(name, f)
        weight, bias = f.parameter(f"{own}.weight"), f.parameter(f"{own}.bias")
        return r.norm(x, weight, bias, f.config.layer_norm_eps, place)

    return compute


def _embeddings(f: Facts, r: Rules) -> Steps:
    words, types = "embeddings.word_embeddings", "embeddings.token_type_embeddings"
    norm = _norm(f, r, "embeddings.LayerNorm", "embeddings")

    def word_vectors() -> Array:
        given = f.input("inputs_embeds")
        return r.words(f.parameter(f"{words}.weight"), f) if given is None else given

    return {
        words: Step((), word_vectors),
        types: Step((), lambda: r.types(f.parameter(f"{types}.weight"), f)),
        "embeddings.sum": Step((words, types), lambda w, t: r.embedding_sum(w, t, f)),
        "embeddings.LayerNorm": Step(("embeddings.sum",), norm),
        "embeddings": Step(
            ("embeddings.LayerNorm",), lambda y: r.dropout(y, f.factor("embeddings"))
        ),
    }  # fmt: skip


def _layer(f: Facts, r: Rules, i: int, x: str) -> Steps:
    name = f"encoder.layer.{i}"
    steps = _attention(f, r, f.place(i, False), x)
    h = f"{name}.attention.output"
    if f.crosses():
        steps |= _attention(f, r, f.place(i, True), h)
        h = f"{name}.crossattention.output"
    inner, result = f"{name}.intermediate", f"{name}.output"
    norm = _norm(f, r, f"{result}.LayerNorm", "layer")
    steps[f"{inner}.dense"] = Step((h,), linear(f, r, f"{inner}.dense"))
    steps[inner] = Step(
        (f"{inner}.dense",), lambda y: r.activation(y, f.config.hidden_act, "layer")
    )
    steps[f"{result}.dense"] = Step((inner,), linear(f, r, f"{result}.dense"))
    steps[f"{result}.sum"] = Step(
        (f"{result}.dense", h, x),
        lambda y, h, x: r.residual(y, r.feed_forward_residual(h, x), f.factor(result), "layer"),
    )
    steps[name] = Step((f"{result}.sum",), norm)
    return steps


def _attention(f: Facts, r: Rules, a: Place, x: str) -> Steps:
    p, d = a.prefix, a.d
    query, key, value = (f"{p}self.{part}" for part in ("query", "key", "value"))
    norm = _norm(f, r, f"{p}output.LayerNorm", "attention")

    def projected(name: str) -> Step:
        project = linear(f, r, name)
        if name != query and a.crosses:
            return Step((), lambda: project(f.input("encoder_hidden_states")))
        return Step((x,), lambda x: project(r.before_attention(x, norm)))

    def heads(new: Array | None, which: int) -> Array:
        """Keys or values: those of the past, and behind them the new ones."""
        kept = [] if a.past is None else [a.past[which]]
        return np.concatenate(kept + ([] if new is None else [r.split(new, d)]), axis=2)

    new = (lambda n: (n,)) if a.fresh else (lambda n: ())
    steps = {query: projected(query)}
    if a.fresh:
        steps |= {key: projected(key), value: projected(value)}
    return steps | {
        f"{p}scores": Step(
            (query, *new(key)), lambda q, k=None: r.scores(r.split(q, d), heads(k, 0), a)
        ),
        f"{p}probs": Step((f"{p}scores",), lambda s: r.probs(s, a)),
        f"{p}weights": Step((f"{p}probs", f"{p}scores"), lambda pr, s: r.weights(pr, s, a)),
        f"{p}context": Step(
            (f"{p}weights", f"{p}probs", *new(value)),
            lambda w, probs, v=None: r.merge(r.context(w, probs, heads(v, 1), a)),
        ),
        f"{p}output.dense": Step((f"{p}context",), linear(f, r, f"{p}output.dense")),
        f"{p}output.sum": Step(
            (f"{p}output.dense", x),
            lambda y, x: r.residual(y, x, f.factor(f"{p}output"), "attention"),
        ),
        f"{p}output": Step((f"{p}output.sum",), norm),
    }


def _heads(f: Facts, r: Rules, x: str) -> Steps:
    steps: Steps = {}
    kind = f.model_class.removeprefix("NezhaFor")
    if kind not in UNPOOLED and f.has("pooler.dense.weight"):
        pooled = linear(f, r, "pooler.dense")
        steps["pooler.dense"] = Step((x,), lambda h: pooled(r.pooled(h)))
        steps["pooler"] = Step(("pooler.dense",), r.tanh)
    if kind in ("PreTraining", "MaskedLM"):
        steps |= _predictions(f, r, x)
    if kind in ("PreTraining", "NextSentencePrediction"):
        relation = linear(f, r, "cls.seq_relationship")
        steps["cls.seq_relationship"] = Step(("pooler",), relation)
    if kind in ("SequenceClassification", "MultipleChoice", "TokenClassification"):
        classify, vectors = linear(f, r, "classifier"), x if kind in UNPOOLED else "pooler"
        steps["classifier"] = Step(
            (vectors,), lambda v: classify(r.dropout(v, f.factor("classifier")))
        )
    if kind == "QuestionAnswering":
        steps["qa_outputs"] = Step((x,), linear(f, r, "qa_outputs"))
    return steps | _losses(f, r, kind)


def _predictions(f: Facts, r: Rules, x: str) -> Steps:
    head, transform = "cls.predictions", "cls.predictions.transform"
    norm = _norm(f, r, f"{transform}.LayerNorm", "predictions")

    def logits(y: Array) -> Array:
        tied = f.config.tie_word_embeddings
        weight = "embeddings.word_embeddings.weight" if tied else f"{head}.decoder.weight"
        return r.decoder(y, f.parameter(weight), f.parameter(f"{head}.bias"))

    return {
        f"{transform}.dense": Step((x,), linear(f, r, f"{transform}.dense")),
        f"{transform}.activation": Step(
            (f"{transform}.dense",), lambda y: r.activation(y, f.config.hidden_act, "predictions")
        ),
        transform: Step((f"{transform}.activation",), norm),
        head: Step((transform,), logits),
    }


def _losses(f: Facts, r: Rules, kind: str) -> Steps:
    labels, steps, terms = f.input("labels"), {}, []
    following = f.input("next_sentence_label") if kind == "PreTraining" else labels
    if kind in ("PreTraining", "MaskedLM") and labels is not None:
        steps["masked_lm_loss"] = Step(
            ("cls.predictions",), lambda logits: r.masked_lm_loss(logits, labels)
        )
        terms.append("masked_lm_loss")
    if kind in ("PreTraining", "NextSentencePrediction") and following is not None:
        steps["next_sentence_loss"] = Step(
            ("cls.seq_relationship",), lambda logits: r.next_sentence_loss(logits, following)
        )
        terms.append("next_sentence_loss")
    if terms:
        steps["loss"] = Step(
            tuple(terms), lambda *found: r.total_loss(dict(zip(terms, found, strict=True)))
        )
    elif kind == "QuestionAnswering" and f.input("start_positions") is not None:
        ends = f.input("start_positions"), f.input("end_positions")
        steps["loss"] = Step(("qa_outputs",), lambda logits: r.answer_loss(logits, *ends))
    elif labels is not None:
        problem = problem_of(f, kind, labels)
        shape = (*labels.shape[:1], -1) if kind == "MultipleChoice" else None
        steps["loss"] = Step(
            ("classifier",),
            lambda logits: r.class_loss(
                logits if shape is None else logits.reshape(shape), labels, problem
            ),
        )
    return steps


def problem_of(f: Facts, kind: str, labels: Array) -> str:
    """As NezhaForSequenceClassification chooses; the other classes have one label."""
    if kind != "SequenceClassification":
        return "single_label_classification"
    if f.config.problem_type is not None:
        return f.config.problem_type
    if f.config.num_labels == 1:
        return "regression"
    whole = labels.dtype.kind in "iu"
    return "single_label_classification" if whole else "multi_label_classification"
