"""Train a transformer language model: python train.py [--config FILE.toml] [--data FILE...] [--n-layer 4 ...]

The command line itself is tiny_transformer_np/training/__main__.py.
"""

import sys

from tiny_transformer_np.training.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
