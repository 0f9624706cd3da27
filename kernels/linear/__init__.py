"""out = x @ weight.T + bias, and its gradients."""
