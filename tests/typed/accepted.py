"""A program that uses the public names as documented: mypy must accept it."""

from pathlib import Path

import numpy as np

from minizha import (
    MinizhaError,
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaForPreTraining,
    NezhaForQuestionAnswering,
    NezhaModel,
    NezhaTokenizer,
    crosscheck,
    fill_mask,
    load_shipped,
    next_sentence_probability,
)
from minizha.training.optimizer import AdamW, clip_by_global_norm
from minizha.training.step import loss_and_gradients


def train(folder: Path, text: str) -> float:
    """One step of pre-training."""
    tokenizer = NezhaTokenizer.from_pretrained(folder)
    model = NezhaForPreTraining.from_pretrained(folder, dtype="float64", num_labels=3).train(seed=1)
    batch = tokenizer(text, max_length=32)
    labels = np.full_like(batch["input_ids"], -100)
    labels[0, 1] = tokenizer.convert_tokens_to_ids("军") + 0
    out = model(**batch, labels=labels, next_sentence_label=[0])
    out.backward()
    optimizer = AdamW(model, weight_decay=0.01)
    gradients, _ = clip_by_global_norm(model.gradients(), 1.0)
    optimizer.step(gradients, 1e-4)
    loss_and_gradients(model, dict(batch))
    model.eval().save_pretrained(folder, tokenizer=tokenizer)
    return float(out.loss)


def read(folder: str) -> list[str]:
    """Guesses, next sentences, spans, and the states of a model without a head."""
    model, info = NezhaForMaskedLM.from_pretrained(folder, output_loading_info=True)
    tokenizer = NezhaTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "军"])
    guesses = fill_mask(model, tokenizer, "曹操引[MASK]来攻", top_k=3)
    both = NezhaForPreTraining(model.config)
    probability: float = next_sentence_probability(both, tokenizer, "操引兵来攻。", "玄德大惊。")
    config = NezhaConfig(hidden_size=32, num_attention_heads=4, is_decoder=True)
    states = NezhaModel(config, add_pooling_layer=False)([[5, 6]], use_cache=True)
    spans = NezhaForQuestionAnswering(config)(input_ids=[[5, 6]])
    try:
        spans.backward(start_logits=np.ones((1, 2)))
    except MinizhaError as error:
        print(error, states.past_key_values, states["last_hidden_state"], states[0], probability)
    return [guess.token for row in guesses for guess in row] + list(info.missing)


def ask() -> str:
    """The model in the package."""
    model, tokenizer = load_shipped(backend="numpy")
    return fill_mask(model, tokenizer, "玄[MASK]大喜")[0][0].token


def check(model: NezhaModel, path: Path) -> bool:
    """A comparison, and two checks of gradients."""
    trace = crosscheck.trace(model, {"input_ids": [[1, 2]]}, upstream={"pooler_output": 1.0})
    report = crosscheck.compare(trace, path, rtol=1e-5)
    pair: crosscheck.PairReport = crosscheck.check_pair(
        lambda x: (x * x, x), lambda dy, x: 2 * x * dy, [np.ones(3)]
    )
    gradients: crosscheck.GradientReport = crosscheck.gradcheck(model, {"input_ids": [[1, 2]]})
    print(report.first_divergence, report.to_html(), pair.hint)
    return report.ok and pair.ok is True and gradients.ok
