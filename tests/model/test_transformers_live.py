"""Random small models against Transformers, where a version with Nezha is installed.

``pip install -e ".[test,peers]"`` installs it. The recorded vectors do the same for fixed cases
without Transformers; here the cases are random.
"""

import numpy as np
import pytest

import minizha
from tests.vectors.test_transformers_vectors import TOLERANCE, Recorded, differences

torch = pytest.importorskip("torch", reason="the peers extra is not installed")
transformers = pytest.importorskip("transformers", reason="the peers extra is not installed")
if not hasattr(transformers, "NezhaModel"):
    pytest.skip("this Transformers has no Nezha (5 dropped it)", allow_module_level=True)

from make_transformers_vectors import overwrite_position_buffers, run_case
from transformers_head_cases import MULTI_LABEL, PROBLEMS, REGRESSION
from transformers_inputs import EVERYTHING, MASKS, Case

PLAIN_MASKS = [None, *(name for name in MASKS if name != "fractional")]
FLAT_MASKS = [name for name in PLAIN_MASKS if not (name or "").startswith("pairwise")]
LABELS = {
    "NezhaModel": (),
    "NezhaForPreTraining": ("labels", "next_sentence_label"),
    "NezhaForMaskedLM": ("labels",),
    "NezhaForNextSentencePrediction": ("labels",),
    "NezhaForSequenceClassification": ("labels",),
    "NezhaForMultipleChoice": ("labels",),
    "NezhaForTokenClassification": ("labels",),
    "NezhaForQuestionAnswering": ("start_positions", "end_positions"),
}
LOGITS = {
    "NezhaForPreTraining": ("prediction_logits", "seq_relationship_logits"),
    "NezhaForQuestionAnswering": ("start_logits", "end_logits"),
}
TAKES_AN_ENCODER = ("NezhaModel", "NezhaForMaskedLM")
SEEDS = 120


def random_config(rng, L):
    # at least 8 features: LayerNorm of two or four leaves gradients that are mostly rounding
    heads, head_size = [(1, 8), (2, 4), (2, 6), (3, 4), (3, 8), (5, 2)][rng.integers(6)]
    layers = int(rng.integers(1, 4))
    config = {
        "vocab_size": int(rng.integers(29, 53)),
        "hidden_size": heads * head_size,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "intermediate_size": int(rng.integers(5, 31)),
        "max_relative_position": int(rng.choice([1, 2, 3, 5, 8, 64])),
        "max_position_embeddings": 16,
        "type_vocab_size": int(rng.integers(1, 4)),
        "hidden_act": str(rng.choice(["gelu", "gelu_new", "relu", "silu", "tanh"])),
        "layer_norm_eps": float(rng.choice([1e-12, 1e-5])),
        "tie_word_embeddings": bool(rng.random() < 0.7),
    }
    if rng.random() < 0.2:
        config["chunk_size_feed_forward"] = int(
            rng.choice([c for c in range(1, L + 1) if L % c == 0])
        )
    if rng.random() < 0.3:  # a head is left in every layer
        pruned = {i: rng.permutation(heads)[: rng.integers(heads)] for i in range(layers)}
        config["pruned_heads"] = {
            i: sorted(map(int, gone)) for i, gone in pruned.items() if len(gone)
        }
    return config


def decoder_choices(rng, class_name):
    """What a decoder adds to the config, and cross-attention to the case."""
    if rng.random() < 0.5:
        return {}, {}
    config, case = {"is_decoder": True}, {}
    if rng.random() < 0.3:
        config["use_cache"] = False
    if class_name in TAKES_AN_ENCODER and rng.random() < 0.7:
        config["add_cross_attention"] = True
        if rng.random() < 0.8:
            mask = [*PLAIN_MASKS, "fractional"][rng.integers(len(PLAIN_MASKS) + 1)]
            case = {"encoder": True, "encoder_mask": mask}
    return config, case


def head_choices(rng, class_name):
    """The number of labels or choices, where the class has any."""
    match class_name:
        case "NezhaForSequenceClassification":
            problem = PROBLEMS[rng.integers(3)]
            labels = int(rng.integers(1 if problem == REGRESSION else 2, 6))
            config = {"num_labels": labels}
            if rng.random() < 0.5 or (problem == REGRESSION and labels > 1):
                config["problem_type"] = problem
            return config, {"problem": problem}
        case "NezhaForTokenClassification":
            return {"num_labels": int(rng.integers(2, 6))}, {}
        case "NezhaForMultipleChoice":
            return {}, {"choices": int(rng.integers(2, 5))}
    return {}, {}


def upstream_fields(class_name, config, case):
    if class_name != "NezhaModel":
        return (*LOGITS.get(class_name, ("logits",)), *EVERYTHING)
    names = ["last_hidden_state", "pooler_output", *EVERYTHING]
    if config.get("is_decoder") and config.get("use_cache", True):
        names.append("past_key_values")
    return (*names, "cross_attentions") if case.get("encoder") else tuple(names)


def random_case(seed):
    rng = np.random.default_rng(seed)
    class_name = str(rng.choice(list(LABELS)))
    B, L = int(rng.integers(2, 5)), int(rng.integers(5, 15))
    config = random_config(rng, L)
    decoder, encoder = decoder_choices(rng, class_name)
    head, more = head_choices(rng, class_name)
    config |= decoder | head
    more |= encoder
    masks = FLAT_MASKS if class_name == "NezhaForMultipleChoice" else PLAIN_MASKS
    # Transformers fails on a head mask of the full width where heads were pruned
    head_masks = [None] if "pruned_heads" in config else [None, "shared", "per-layer"]
    labels = LABELS[class_name] if rng.random() < 0.7 else ()
    return Case(
        f"random-{seed}",
        class_name,
        seed,
        B,
        L,
        config,
        "drawn at random",
        mask=masks[rng.integers(len(masks))],
        head_mask=head_masks[rng.integers(len(head_masks))],
        token_types=bool(rng.random() < 0.5),
        embeds=bool(rng.random() < 0.3),
        labels=labels,
        upstream=() if labels else upstream_fields(class_name, config, more),
        **more,
    )


def recorded(case):
    arrays, _ = run_case(case)
    return Recorded(arrays, case.class_name, case.config, case.class_arguments)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_model_equals_that_of_transformers(seed):
    assert max(differences(recorded(random_case(seed)))) <= TOLERANCE


def test_the_seeds_reach_every_kind_of_model():
    """Negative control: every variant is drawn, and so compared."""
    cases = [random_case(seed) for seed in range(SEEDS)]
    assert {case.class_name for case in cases} == LABELS.keys()
    assert {case.problem for case in cases if "num_labels" in case.config} == set(PROBLEMS)
    for trait in (
        lambda case: case.encoder and case.encoder_mask is None,
        lambda case: case.encoder and (case.encoder_mask or "").startswith("pairwise"),
        lambda case: case.encoder and case.config.get("pruned_heads"),
        lambda case: case.encoder and "past_key_values" in case.upstream,
        lambda case: case.config.get("add_cross_attention") and not case.encoder,
        lambda case: case.config.get("is_decoder") and case.choices,
        lambda case: case.config.get("is_decoder") and (case.mask or "").startswith("pairwise"),
        lambda case: case.config.get("chunk_size_feed_forward"),
        lambda case: case.problem == MULTI_LABEL and "problem_type" not in case.config,
    ):
        assert any(trait(case) for case in cases)


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_distance_is_seen_here_too(seed):
    case = recorded(random_case(seed))
    case.model.table = case.model.table[::-1]
    assert max(differences(case)) > 1e-4


# --- gradients that no vector holds ---------------------------------------------------------------

SIZES = {
    "vocab_size": 23,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_relative_position": 2,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}


def both_gradients(seed, more):
    """∂loss/∂head_mask and ∂loss/∂hidden_states, of Transformers and of minizha."""
    rng, (B, L) = np.random.default_rng(seed), (2, 7)
    torch.manual_seed(seed)
    theirs = transformers.NezhaForMaskedLM(transformers.NezhaConfig(**SIZES, **more)).eval()
    theirs = theirs.double()
    overwrite_position_buffers(theirs)
    inputs = {
        "input_ids": rng.integers(1, SIZES["vocab_size"], (B, L)),
        "attention_mask": np.array([[1] * L, [1] * (L - 2) + [0] * 2]),
        "labels": rng.integers(0, SIZES["vocab_size"], (B, L)),
        "head_mask": rng.standard_normal((3, 3)),
    }
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    tensors["head_mask"].requires_grad_()
    out = theirs(**tensors, output_hidden_states=True)
    for states in out.hidden_states:
        states.retain_grad()
    out.loss.backward()
    expected = [tensors["head_mask"].grad, *(states.grad for states in out.hidden_states)]

    config = minizha.NezhaConfig(**SIZES, **more)
    ours = minizha.NezhaForMaskedLM(config, dtype="float64")
    stored = {n: p.numpy() for n, p in theirs.state_dict().items() if n in ours.state_dict()}
    ours.load_state_dict(stored)
    found = ours(**inputs, output_hidden_states=True).backward()
    return [g.numpy() for g in expected], [found["head_mask"], *found.hidden_states]


@pytest.mark.parametrize("more", [{}, {"is_decoder": True}], ids=["encoder", "decoder"])
@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_the_head_mask_and_of_the_hidden_states(seed, more):
    expected, found = both_gradients(seed, more)
    assert len(expected) == len(found) == 5
    for theirs, ours in zip(expected, found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max())
    assert np.abs(found[1] - expected[2]).max() > 1e-3  # another layer's would show
