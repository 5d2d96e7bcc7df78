"""More cases of make_v1.py: fine-tuning heads, decoders, pruned heads, chunks.

The letters are those of v1_inputs.py. `covers` lists keys of FEATURES in v1_cases.py.
"""

from typing import Any

from v1_inputs import Case, sizes

WORDS = {"labels": "words"}
POSITIONS = ("start_positions", "end_positions")


def _sequence(name: str, seed: int, config: dict, covers: str, notes: str, **options: Any) -> Case:
    class_name = "NezhaForSequenceClassification"
    return Case(
        f"sequence-{name}", class_name, seed, config, tuple(covers.split()), notes, **options
    )


def _question(name: str, seed: int, K: int, covers: str, notes: str, positions: str) -> Case:
    config = sizes(23, 12, 3, 1, 17, K)
    features = ("question-answering", *covers.split())
    inputs = {"labels": dict.fromkeys(POSITIONS, positions), "token_types": True, "B": 3}
    class_name = "NezhaForQuestionAnswering"
    return Case(f"question-{name}", class_name, seed, config, features, notes, **inputs)


def _decoder(name: str, seed: int, config: dict, covers: str, notes: str, **options: Any) -> Case:
    class_name, config = options.pop("class_name", "NezhaModel"), config | {"is_decoder": True}
    features = ("decoder", *covers.split())
    return Case(f"decoder-{name}", class_name, seed, config, features, notes, **options)


def _cross(name: str, seed: int, config: dict, covers: str, notes: str, **options: Any) -> Case:
    class_name = options.pop("class_name", "NezhaModel")
    config = config | {"is_decoder": True, "add_cross_attention": True}
    features = ("decoder", "cross-attention", *covers.split())
    return Case(f"cross-{name}", class_name, seed, config, features, notes, **options)


# fmt: off
HEAD_CASES = (
    _sequence("single", 51, sizes(23, 12, 3, 1, 17, 3, num_labels=4), "single-label "
              "problem-type-inferred labels-ignored", "integers: one of four classes", B=3,
              mask="right", labels={"labels": "one ignored"}),
    _sequence("number", 52, sizes(23, 12, 2, 1, 17, 3, num_labels=1), "regression "
              "problem-type-inferred", "one label: a number for each text", B=3,
              labels={"labels": "numbers"}),
    _sequence("numbers", 53, sizes(23, 12, 3, 1, 17, 3, num_labels=3, problem_type="regression"),
              "regression", "three numbers for each text", labels={"labels": "numbers"}),
    _sequence("several", 54, sizes(23, 12, 2, 1, 17, 3, num_labels=5,
                                   problem_type="multi_label_classification"),
              "multi-label mask-2d", "five yes or no, some of them undecided (0.5)", mask="left",
              labels={"labels": "targets"}),
    _sequence("dropout", 55, sizes(23, 12, 3, 1, 17, 3, num_labels=3, classifier_dropout=0.4),
              "dropout classifier-dropout single-label", "train mode; classifier_dropout 0.4", B=3,
              labels={"labels": "classes"}, train=103),
    Case("choice", "NezhaForMultipleChoice", 56, sizes(23, 12, 3, 1, 17, 2),
         ("multiple-choice", "mask-2d", "token-types"),
         "two examples of three choices; the body reads six rows, the choices of an example next to "
         "each other", L=6, choices=3, mask="right", token_types=True,
         labels={"labels": "classes"}),
    Case("token", "NezhaForTokenClassification", 57, sizes(23, 12, 3, 1, 17, 3, num_labels=5),
         ("token-classification", "labels-ignored", "mask-2d"), "some tokens have no label",
         mask="right", labels=WORDS),
    _question("inside", 58, 3, "token-types", "all positions inside of the text", "positions"),
    _question("outside", 59, 2, "positions-outside clipping",
              "a start and an end of L or more do not count: the two means run over other examples",
              "outside"),
    Case("pruned", "NezhaForMaskedLM", 61, sizes(23, 16, 4, 2, 14, 3, pruned_heads={0: [1, 3], 1: [0]}),
         ("pruned-heads", "head-mask-layers", "loss-words"),
         "heads are numbered as in the unpruned model, and the head mask counts them all",
         head_mask="layers", labels=WORDS),
    Case("chunked", "NezhaForMaskedLM", 62, sizes(23, 12, 3, 1, 17, 3, chunk_size_feed_forward=3),
         ("chunked", "loss-words"), "three tokens at a time, which does not divide L = 7",
         labels=WORDS),
)
DECODER_CASES = (
    _decoder("plain", 71, sizes(23, 12, 3, 2, 17, 3), "clipping", "causal attention"),
    _decoder("left", 72, sizes(23, 12, 2, 1, 17, 3), "mask-2d masked-row",
             "padding on the left: the first queries may see no key, and attend to all alike, those "
             "after them included", mask="left"),
    _decoder("pairs", 73, sizes(23, 12, 3, 1, 17, 3), "decoder-3d mask-3d",
             "a 3-D mask is taken as it is: queries may look ahead", mask="pairs"),
    _decoder("maskedlm", 74, sizes(31, 12, 3, 1, 17, 2), "loss-words tied mask-2d",
             "the labels stand where they are guessed", class_name="NezhaForMaskedLM", mask="right",
             labels=WORDS),
    _decoder("past", 75, sizes(23, 12, 3, 2, 17, 4), "past clipping mask-2d",
             "query i stands at position 5 + i; mask (B, P + L)", L=4, P=5, past=2, mask="left"),
    _decoder("past-pairs", 76, sizes(23, 12, 2, 1, 17, 3), "past decoder-3d mask-3d masked-row",
             "mask (B, L, P + L) with rows that see nothing", L=4, P=3, past=2, mask="empty-rows"),
    _decoder("past-one-token", 77, sizes(23, 12, 3, 2, 17, 2),
             "past one-token one-example clipping loss-words",
             "one token after six, as in generation", class_name="NezhaForMaskedLM", B=1, L=1, P=6,
             past=2, labels=WORDS),
    _decoder("past-pruned", 78, sizes(23, 16, 4, 2, 17, 3, pruned_heads={1: [2]}),
             "past pruned-heads", "the past has the heads that are left: 4 and 3", L=3, P=4,
             past=2),
    _cross("equal", 81, sizes(23, 12, 3, 1, 17, 3), "head-mask clipping",
           "an encoder of the same length; the head mask acts on both attentions", S=7,
           head_mask="heads"),
    _cross("longer", 82, sizes(23, 12, 2, 1, 17, 3), "cross-other-length encoder-mask-2d clipping",
           "S = 9 tokens for L = 5, those at the end padded", L=5, S=9, encoder_mask="right"),
    _cross("shorter", 83, sizes(23, 12, 3, 1, 17, 3), "cross-other-length encoder-mask-3d",
           "S = 4 tokens for L = 6; each query may see others", L=6, S=4, encoder_mask="pairs"),
    _cross("empty-rows", 84, sizes(23, 12, 3, 1, 17, 2), "cross-other-length encoder-mask-3d masked-row",
           "queries that may see nothing of the encoder", L=5, S=6, encoder_mask="empty-rows"),
    _cross("maskedlm", 85, sizes(31, 12, 3, 1, 17, 3), "cross-other-length loss-words",
           "with the masked-word loss", class_name="NezhaForMaskedLM", L=6, S=5, labels=WORDS,
           mask="right", encoder_mask="left"),
    _cross("past", 86, sizes(23, 12, 3, 2, 17, 3), "past cross-other-length",
           "past of two arrays, encoder states besides: in cross-attention too query i stands at "
           "position 3 + i", L=4, P=3, S=6, past=2),
    _cross("past-of-both", 87, sizes(23, 12, 2, 2, 17, 3), "past-cross cross-other-length "
           "encoder-mask-2d", "past of four arrays: the encoder's keys and values are theirs, and "
           "crossattention.self.key and .value are not computed", L=2, P=4, S=5, past=4,
           encoder_mask="right"),
    _cross("everything", 88, sizes(
           19, 12, 3, 2, 17, 2, tie_word_embeddings=False, hidden_act="gelu_new",
           pruned_heads={1: [0]}, chunk_size_feed_forward=2, hidden_dropout_prob=0.2,
           attention_probs_dropout_prob=0.3),
           "past dropout untied chunked pruned-heads inputs-embeds head-mask-layers encoder-mask-3d "
           "mask-3d token-types loss-words", "everything at once", class_name="NezhaForMaskedLM", L=3, P=4,
           S=6, past=2, mask="pairs", encoder_mask="pairs", head_mask="layers", embeds=True,
           token_types=True, labels=WORDS, train=104),
)
# fmt: on
