"""From text to arrays: tokenizer, corpus, masking and sentence pairs."""
