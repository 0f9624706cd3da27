"""train.py whatever has happened to the caches; what each cache does by itself is in tests/kernels."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cpu import compile
from kernels.system import cache

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--config", str(ROOT / "configs" / "tiny.toml"), "--max-steps", "1", "--warmup-steps", "0", "--no-preflight"]
USED = ["adamw.cpu._update_arena", "gelu.cpu._forward_tanh", "global_norm.cpu._sum_of_squares",
        "layernorm.cpu._backward", "layernorm.cpu._forward"]  # fmt: skip
WITHOUT_A_NAME = """
import pwd
def unknown(number): raise KeyError(number)
pwd.getpwuid = unknown
"""


@pytest.fixture
def train(tmp_path):
    """train(name, flags, environment): the rows that a run of one step writes; it must end with status 0."""
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question: " * 50)

    def run(name, *flags, before="", **environment):
        out = tmp_path / name
        script = str(ROOT / "train.py")
        words = [script, *FLAGS, *flags, "--data", str(tmp_path / "text.txt"), "--out-dir", str(out)]
        code = f"{before}\nimport runpy, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = {words!r}\n"
        code += f"runpy.run_path({script!r}, run_name='__main__')"
        env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "MPLCONFIGDIR": str(tmp_path), **environment}
        result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [row.get("loss", row.get("val_loss")) for row in rows]

    return run


def damage(paths):
    """Each file another way."""
    for number, path in enumerate(sorted(paths)):
        content = path.read_bytes()
        if number % 5 == 4:
            path.unlink()
            path.symlink_to("nothing")
        else:
            path.write_bytes([b"", content[:-1], content[: len(content) // 2], bytes(len(content))][number % 5])


@pytest.mark.slow
def test_a_run_ends_well_with_damaged_kernels_and_without_a_home(train, tmp_path):
    """The cache of these tests is copied, lest all kernels were compiled."""
    kept = tmp_path / "home" / ".cache" / "minigrad"
    kept.mkdir(parents=True)
    if compile._CACHE is not None:
        shutil.copytree(compile._CACHE, kept / Path(compile._CACHE).name)
    undisturbed = train("undisturbed", "--kernels", "fast", HOME=str(tmp_path / "home"))
    entries = {name: list(kept.glob(f"cpu-*/kernels.{name}-*")) for name in USED}
    assert all(entries.values()), entries
    damage(path for paths in entries.values() for path in paths)
    assert train("damaged", "--kernels", "fast", HOME=str(tmp_path / "home")) == pytest.approx(undisturbed, rel=1e-5)
    for name, paths in entries.items():  # one is for float32; the other, of the tests before, for float64
        assert any(cache.read(path) is not None for path in paths), name
    kept.rename(tmp_path / f"minigrad-{os.geteuid()}")
    assert train("nameless", "--kernels", "fast", before=WITHOUT_A_NAME) == pytest.approx(undisturbed, rel=1e-5)
    assert sorted(os.listdir(tmp_path / "home" / ".cache")) == []


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.cuda_sim
def test_a_run_on_the_simulated_device_ends_well_with_damaged_libraries(train, tmp_path):
    where = {"XDG_CACHE_HOME": str(tmp_path)}
    undisturbed = train("undisturbed", "--device", "cuda-sim", **where)
    libraries = list(tmp_path.glob("minigrad/cuda-sim/*"))
    assert len(libraries) > 5
    damage(libraries)
    assert train("damaged", "--device", "cuda-sim", **where) == undisturbed
    assert all(cache.read(path) is not None for path in libraries)
