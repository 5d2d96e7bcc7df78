"""The example of NezhaForMaskedLM in the documentation of Transformers 4.37, on minizha.

Copyright 2018- The Hugging Face team, Apache License 2.0 (see LICENSE in this folder). Changed: the
imports and the value of ``return_tensors``; the prompts and this heading.
"""
# ruff: noqa: I001
# fmt: off

from minizha import NezhaTokenizer as AutoTokenizer, NezhaForMaskedLM
import numpy_as_torch as torch

tokenizer = AutoTokenizer.from_pretrained("sijunhe/nezha-cn-base")
model = NezhaForMaskedLM.from_pretrained("sijunhe/nezha-cn-base")

inputs = tokenizer("The capital of France is [MASK].", return_tensors=torch.tensor)

with torch.no_grad():
    logits = model(**inputs).logits

# retrieve index of [MASK]
mask_token_index = (inputs.input_ids == tokenizer.mask_token_id)[0].nonzero(as_tuple=True)[0]

predicted_token_id = logits[0, mask_token_index].argmax(axis=-1)

labels = tokenizer("The capital of France is Paris.", return_tensors=torch.tensor)["input_ids"]
# mask labels of non-[MASK] tokens
labels = torch.where(inputs.input_ids == tokenizer.mask_token_id, labels, -100)

outputs = model(**inputs, labels=labels)
