"""Mistakes, a line each, that mypy must refuse with the code at the end of the line: the negative
control of accepted.py."""

from minizha import (
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaModel,
    NezhaTokenizer,
    crosscheck,
    fill_mask,
)
from minizha import NezhaModle as Misspelt  # refused: attr-defined
from minizha.training.optimizer import AdamW

tokenizer = NezhaTokenizer.from_pretrained("folder")
model = NezhaForMaskedLM(NezhaConfig())
NezhaForMaskedLM("folder")  # refused: arg-type
NezhaForMaskedLM.from_pretrained(7)  # refused: call-overload
model.train(seed="0")  # refused: arg-type
model.save_pretrained()  # refused: call-arg
model.state_dict()[0]  # refused: index
loss: str = model([[1, 2]], labels=[[1, 2]])  # refused: assignment
model([[1, 2]]).backward("loss")  # refused: call-arg
model, info = NezhaForMaskedLM.from_pretrained("folder")  # refused: misc
fill_mask(NezhaModel(NezhaConfig()), tokenizer, "[MASK]")  # refused: arg-type
fill_mask(model, tokenizer, ["[MASK]"])  # refused: arg-type
tokenizer.convert_tokens_to_ids("军").append(1)  # refused: attr-defined
tokenizer("军", max_len=3)  # refused: call-arg
print(tokenizer.decode([1]).tokens)  # refused: attr-defined
report = crosscheck.compare({}, {}, rtoll=1e-5)  # refused: call-arg
print(Misspelt, report.first_divergance)  # refused: attr-defined
crosscheck.compair({}, {})  # refused: attr-defined
crosscheck.gradcheck(model, [[1, 2]])  # refused: arg-type
AdamW(model).step([1.0], 1e-4)  # refused: arg-type
