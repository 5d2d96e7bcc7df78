"""The forward pass as steps: each array of a trace from those before it, by the rules of a class.

An array can thus be computed from any earlier arrays that the other side has; those that it lacks
are computed first. (``….sum``, the input of a LayerNorm, is a step that is in no trace.)

Letters, here and in the backward pass: f the facts, r the rules, a the facts of one attention and p
its prefix, i the layer, x and h the names of the inputs of a layer and of its feed-forward network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import AttentionFacts, Facts
from minizha.crosscheck.diagnosis.rules import Array


class Step(NamedTuple):
    """``compute`` makes an array from those named in ``needs``."""

    needs: tuple[str, ...]
    compute: Callable[..., Array]


Steps = dict[str, Step]
UNPOOLED = ("MaskedLM", "TokenClassification", "QuestionAnswering")


def evaluate(
    steps: Mapping[str, Step],
    name: str,
    known: Mapping[str, Array],
    memory: dict[str, Array],
    dtype: str = "float64",
) -> Array:
    """Compute the array ``name``, even if it is known, from the ``known`` arrays, read as ``dtype``.

    ``memory`` collects the arrays that were read or computed.

    Raises:
        KeyError: an array that is needed is neither known nor a step.
    """
    step = steps[name]
    arguments = []
    for need in step.needs:
        if need not in memory:
            if need in known:
                memory[need] = np.asarray(known[need], dtype)
            else:
                memory[need] = evaluate(steps, need, known, memory, dtype)
        arguments.append(memory[need])
    return step.compute(*arguments)


def forward_steps(f: Facts, r: Rules) -> Steps:
    """The steps of the forward pass, in execution order."""
    steps = _embeddings(f, r)
    x = "embeddings"
    for i in range(f.config.num_hidden_layers):
        steps |= _layer(f, r, i, x)
        x = f"encoder.layer.{i}"
    return steps | _heads(f, r, x)


def linear(f: Facts, r: Rules, name: str) -> Callable[[Array], Array]:
    """The linear map ``name``, with the parameters that the rules choose for it."""

    def compute(x: Array) -> Array:
        source = r.parameter(name, f)
        return r.linear(x, f.parameter(f"{source}.weight"), f.parameter(f"{source}.bias"), name)

    return compute


def _norm(f: Facts, r: Rules, name: str, module: str) -> Callable[[Array], Array]:
    def compute(x: Array) -> Array:
        source = r.parameter(name, f)
        weight, bias = f.parameter(f"{source}.weight"), f.parameter(f"{source}.bias")
        return r.norm(x, weight, bias, f.config.layer_norm_eps, module)

    return compute


def _embeddings(f: Facts, r: Rules) -> Steps:
    words, types = "embeddings.word_embeddings", "embeddings.token_type_embeddings"
    norm = _norm(f, r, "embeddings.LayerNorm", "embeddings")

    def word_vectors() -> Array:
        vectors = f.input("inputs_embeds")
        return r.words(f.parameter(f"{words}.weight"), f) if vectors is None else vectors

    return {
        words: Step((), word_vectors),
        types: Step((), lambda: r.types(f.parameter(f"{types}.weight"), f)),
        "embeddings.sum": Step((words, types), lambda w, t: r.embedding_sum(w, t, f)),
        "embeddings.LayerNorm": Step(("embeddings.sum",), norm),
        "embeddings": Step(
            ("embeddings.LayerNorm",), lambda y: r.dropout(y, f.factor("embeddings"))
        ),
    }


def _layer(f: Facts, r: Rules, i: int, x: str) -> Steps:
    name = f"encoder.layer.{i}"
    steps = _attention(f, r, f.attention(i, False), x)
    h = f"{name}.attention.output"
    if f.has_encoder():
        steps |= _attention(f, r, f.attention(i, True), h)
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


def _attention(f: Facts, r: Rules, a: AttentionFacts, x: str) -> Steps:
    p, d = a.prefix, a.d
    query, key, value = (f"{p}self.{name}" for name in ("query", "key", "value"))
    norm = _norm(f, r, f"{p}output.LayerNorm", "attention")

    def projected(name: str) -> Step:
        project = linear(f, r, name)
        if name != query and a.is_cross:
            return Step((), lambda: project(f.input("encoder_hidden_states")))
        return Step((x,), lambda x: project(r.before_attention(x, norm)))

    def heads(new: Array | None, which: int) -> Array:
        """Keys or values: those of the past, then the new ones."""
        past = [] if a.past is None else [a.past[which]]
        return np.concatenate(past + ([] if new is None else [r.split(new, d)]), axis=2)

    new = (lambda n: (n,)) if a.has_new_keys else (lambda n: ())
    steps = {query: projected(query)}
    if a.has_new_keys:
        steps |= {key: projected(key), value: projected(value)}
    return steps | {
        f"{p}scores": Step(
            (query, *new(key)), lambda q, k=None: r.scores(r.split(q, d), heads(k, 0), a)
        ),
        f"{p}probs": Step((f"{p}scores",), lambda s: r.probs(s, a)),
        f"{p}weights": Step((f"{p}probs", f"{p}scores"), lambda pr, s: r.weights(pr, s, a)),
        f"{p}context": Step(
            (f"{p}weights", f"{p}probs", f"{p}scores", *new(value)),
            lambda w, probs, s, v=None: r.merge(r.context(w, probs, s, heads(v, 1), a)),
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
    task = f.model_class.removeprefix("NezhaFor")
    if task not in UNPOOLED and f.has("pooler.dense.weight"):
        pooled = linear(f, r, "pooler.dense")
        steps["pooler.dense"] = Step((x,), lambda h: pooled(r.pooled(h, f)))
        steps["pooler"] = Step(("pooler.dense",), r.tanh)
    if task in ("PreTraining", "MaskedLM"):
        steps |= _predictions(f, r, x)
    if task in ("PreTraining", "NextSentencePrediction"):
        relation = linear(f, r, "cls.seq_relationship")
        steps["cls.seq_relationship"] = Step(("pooler",), relation)
    if task in ("SequenceClassification", "MultipleChoice", "TokenClassification"):
        classify, vectors = linear(f, r, "classifier"), x if task in UNPOOLED else "pooler"
        steps["classifier"] = Step(
            (vectors,), lambda v: classify(r.dropout(v, f.factor("classifier")))
        )
    if task == "QuestionAnswering":
        steps["qa_outputs"] = Step((x,), linear(f, r, "qa_outputs"))
    return steps | _losses(f, r, task)


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


def _losses(f: Facts, r: Rules, task: str) -> Steps:
    labels, steps, terms = f.input("labels"), {}, []
    pair_labels = f.input("next_sentence_label") if task == "PreTraining" else labels
    if task in ("PreTraining", "MaskedLM") and labels is not None:
        steps["masked_lm_loss"] = Step(
            ("cls.predictions",), lambda logits: r.masked_lm_loss(logits, labels)
        )
        terms.append("masked_lm_loss")
    if task in ("PreTraining", "NextSentencePrediction") and pair_labels is not None:
        steps["next_sentence_loss"] = Step(
            ("cls.seq_relationship",), lambda logits: r.next_sentence_loss(logits, pair_labels)
        )
        terms.append("next_sentence_loss")
    if terms:
        steps["loss"] = Step(
            tuple(terms), lambda *losses: r.total_loss(dict(zip(terms, losses, strict=True)))
        )
    elif task == "QuestionAnswering" and f.input("start_positions") is not None:
        ends = f.input("start_positions"), f.input("end_positions")
        steps["loss"] = Step(("qa_outputs",), lambda logits: r.answer_loss(logits, *ends))
    elif labels is not None:
        problem = problem_of(f, task, labels)
        shape = (*labels.shape[:1], -1) if task == "MultipleChoice" else None
        steps["loss"] = Step(
            ("classifier",),
            lambda logits: r.class_loss(
                logits if shape is None else logits.reshape(shape), labels, problem
            ),
        )
    return steps


def problem_of(f: Facts, task: str, labels: Array) -> str:
    """The problem type that NezhaForSequenceClassification chooses; other classes have one label."""
    if task != "SequenceClassification":
        return "single_label_classification"
    if f.config.problem_type is not None:
        return f.config.problem_type
    if f.config.num_labels == 1:
        return "regression"
    integers = labels.dtype.kind in "iu"
    return "single_label_classification" if integers else "multi_label_classification"
