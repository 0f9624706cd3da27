"""Cross-entropy of logits and integer targets."""
