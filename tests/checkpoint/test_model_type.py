"""BERT's weights, and NEZHA's with BERT's model_type, are refused with the reason."""

import pytest

from minizha.checkpoint.model_type import refuse_other_models
from minizha.errors import FileError
from tests.support.port_names import SCHEMES, parameters, pytorch

BERT_TABLES = {
    "bert.embeddings.position_embeddings.weight": "BERT",
    "roberta.embeddings.position_embeddings.weight": "RoBERTa",
    "module.bert.embeddings.position_embeddings.weight": "BERT's or a relative",
    "embeddings.position_embeddings.weight": "BERT's or a relative",
    "nezha.embeddings.position_embeddings.weight": "BERT's or a relative",
    "bert/embeddings/position_embeddings": "BERT",
    "bert/embeddings/position_embeddings:0": "BERT",
    "Embedding-Position/embeddings:0": "BERT's or a relative",
    "Embedding-Position/Embedding-Position/embeddings:0": "BERT's or a relative",
}


@pytest.mark.parametrize("model_type", [None, "nezha"])
@pytest.mark.parametrize("table", BERT_TABLES)
def test_a_table_of_absolute_positions_is_refused(table, model_type):
    said = r"config\.json says model_type 'nezha', but these" if model_type else "these"
    with pytest.raises(FileError, match=f"^here: {said} are {BERT_TABLES[table]}'s weights") as e:
        refuse_other_models([*pytorch(parameters()), table], model_type, "here")
    assert f"a table of absolute positions, {table}, which NEZHA does not have" in str(e.value)


@pytest.mark.parametrize(("model_type", "whose"), [("bert", "BERT"), ("roberta", "RoBERTa")])
def test_a_bare_model_s_family_is_that_of_its_config(model_type, whose):
    with pytest.raises(FileError, match=f"these are {whose}'s weights, not NEZHA's"):
        refuse_other_models(["embeddings.position_embeddings.weight"], model_type, "here")


@pytest.mark.parametrize("model_type", [None, "nezha"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_nezha_s_own_weights_are_not_refused(scheme, model_type):
    """The control, with buffers whose names are nearly the table's."""
    names = [
        *SCHEMES[scheme](parameters()),
        "embeddings.position_ids",
        "bert.embeddings.position_ids",
    ]
    refuse_other_models(names, model_type, "here")
    refuse_other_models(iter(names), model_type, "here")
    refuse_other_models([], model_type, "here")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nezha_s_weights_under_bert_s_model_type(scheme):
    with pytest.raises(
        FileError, match=r"says model_type 'bert', but the weights look like NEZHA's"
    ):
        refuse_other_models(SCHEMES[scheme](parameters()), "bert", "here")


@pytest.mark.parametrize("scheme", ["PyTorch", "Keras"])
@pytest.mark.parametrize("model_type", ["bert", "roformer", "roberta"])
def test_nezha_s_buffers_under_another_model_type(scheme, model_type):
    with pytest.raises(FileError, match=r"they have its relative positions, .*write 'nezha' there"):
        refuse_other_models(SCHEMES[scheme](parameters()), model_type, "here")


@pytest.mark.parametrize("model_type", ["gpt2", "roformer", "albert", "", "x" * 1000, ["nezha"]])
def test_another_model_type_is_refused(model_type):
    """Without buffers nothing shows that it is NEZHA: other models have no absolute positions either."""
    with pytest.raises(
        FileError, match=r"^here: config\.json says model_type .*, expected 'nezha'"
    ) as e:
        refuse_other_models(parameters(), model_type, "here")
    assert len(str(e.value)) < 200
    with pytest.raises(FileError, match="expected 'nezha'"):
        refuse_other_models(["transformer.wte.weight"], "bert", "here")
