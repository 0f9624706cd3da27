"""Cross-entropy of a linear layer's logits, which are formed for a chunk of tokens at a time."""
