"""Make the run that a version leaves behind for later ones: python tests/released/make.py [VERSION CHECKOUT]

Trains a tiny model on text.txt with the train.py of a checkout, this one unless another is given, and puts what is
needed to go on from it into tests/released/VERSION.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = [
    "--n-layer", "2", "--n-head", "2", "--n-embd", "8", "--dropout", "0.1", "--seq-len", "16", "--batch-size", "2",
    "--grad-accumulation-steps", "2", "--max-steps", "6", "--warmup-steps", "2", "--learning-rate", "1e-2",
    "--log-interval", "2", "--eval-interval", "3", "--save-interval", "3", "--sample-tokens", "0", "--kernels",
    "reference", "--no-preflight",
]  # fmt: skip
KEPT = ("config.toml", "metrics.jsonl", "checkpoints/latest.safetensors", "checkpoints/best.safetensors")


def make(version, checkout):
    """Train with the checkout's train.py and copy the run's files to tests/released/`version`."""
    target = HERE / version
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE / "text.txt", folder)
        command = [sys.executable, str(checkout / "train.py"), *FLAGS, "--data", "text.txt", "--out-dir", "run"]
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(checkout)}, check=True)
        for name in KEPT:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder, "run", name), target / name)
    print(f"{target}: {sum(file.stat().st_size for file in target.rglob('*') if file.is_file()):,} bytes")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        make(sys.argv[1], Path(sys.argv[2]).resolve())
    else:
        sys.path.insert(0, str(HERE.parents[1]))
        from tiny_transformer_np_package_check import __version__

        make(__version__, HERE.parents[1])
