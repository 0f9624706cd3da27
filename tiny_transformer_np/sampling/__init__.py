"""Text from a trained model: `python -m tiny_transformer_np.sampling RUN --prompt TEXT`."""
