"""What the CUDA kernels share: headers, the launcher, and the device that runs them."""
