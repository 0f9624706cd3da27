"""The wheel as a stranger meets it: python tests/try_wheel.py [WHEEL]

Builds the wheel (unless one is given), installs it into a fresh environment, goes to another folder with empty HOME and
caches, and there imports, trains, samples, trains on the simulated CUDA device, prepares a text, trains on it in word
pieces and explains an operation. Then it installs each of the distributions that have a `kernels` or a `minigrad` too,
before ours and after ours, and sees that the message names the commands which mend it, and that they do. Needs pip's
index; takes a minute or two.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from doc_sessions import ROOT, copy_of_the_project

TINY = "--config configs/tiny.toml --n-layer 1 --n-embd 16 --batch-size 2 --log-interval 1 --no-preflight"
OTHERS = {"kernels": "kernels==0.17.2", "minigrad": "minigrad==0.0.6"}  # package -> who else has one


class Stranger:
    """A fresh environment, and a folder to work in, both below `root`."""

    def __init__(self, root):
        self.root, self.folder = root, root / "elsewhere"
        self.bin = root / "env" / ("Scripts" if sys.platform == "win32" else "bin")
        self.folder.mkdir()
        self.started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", root / "env"], check=True)

    def pip(self, *args):
        """Run pip in the environment, with this account's own cache of downloads."""
        command = [self.bin / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", *args]
        subprocess.run(command, cwd=self.folder, env=_without_pythonpath(), check=True)

    def run(self, command, status=0):
        """A command typed in the folder, the environment being active -> what it printed, checked for its status."""
        home = self.root / "home"
        environment = _without_pythonpath() | {
            "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"),
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }  # fmt: skip
        result = subprocess.run(
            command, shell=True, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=300,
        )  # fmt: skip
        assert result.returncode == status, f"{command}\nended with {result.returncode}:\n{result.stdout}"
        return result.stdout

    def say(self, what):
        print(f"{time.perf_counter() - self.started:5.0f} s  {what}", flush=True)


def _without_pythonpath():
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV")}


def build(root):
    """The wheel of this checkout, made from a copy so that nothing left in `build/` gets into it."""
    source = copy_of_the_project(root / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", root, source]
    subprocess.run(command, env=_without_pythonpath(), check=True)
    (wheel,) = root.glob("*.whl")
    return wheel


def try_the_wheel(stranger):
    """The six actions, and what the commands print to be typed next."""
    python = "import kernels, minigrad, tiny_transformer_np as t; print(t.__version__, kernels.__file__)"
    printed = stranger.run(f"python -c '{python}'")
    assert str(stranger.root / "env") in printed, printed
    for package in ("cudasim", "kernels", "minigrad", "tiny_transformer_np"):  # type checkers read their hints
        stranger.run(f"""python -c 'import {package} as p, pathlib; pathlib.Path(p.__path__[0], "py.typed").stat()'""")
    stranger.run("python -c 'import train'", status=1)
    stranger.say(f"imported: {printed.strip()}")

    printed = stranger.run(f"minigrad-train {TINY} --kernels fast --max-steps 5 --out-dir run")
    assert "step 5/5" in printed and (stranger.folder / "run" / "loss.png").exists(), printed
    (sample,) = [line.strip() for line in printed.splitlines() if line.endswith("--prompt TEXT")]
    assert sample.startswith("minigrad-sample "), sample
    stranger.say("trained 5 steps with compiled kernels")

    printed = stranger.run(sample.replace("TEXT", "the") + " --tokens 20 --kernels reference")
    assert printed.startswith("the") and len(printed) == 3 + 20 + 1, printed
    stranger.say(f"sampled, as the run said: {sample}")

    printed = stranger.run(f"minigrad-train {TINY} --max-steps 2 --device cuda-sim --out-dir simulated")
    assert "cuda-sim" in printed and "step 2/2" in printed, printed
    stranger.say("trained 2 steps on cuda-sim")

    shutil.copy(ROOT / "LICENSE", stranger.folder / "book.txt")
    printed = stranger.run("minigrad-prepare book.txt --tokenizer bpe --vocab-size 300 --out corpus")
    (train,) = [line.strip() for line in printed.splitlines() if line.endswith("--data corpus")]
    assert train == "minigrad-train --data corpus", train
    printed = stranger.run(f"{train} {TINY} --max-steps 2 --num-workers 2 --out-dir prepared")
    assert "vocabulary 300 (bpe" in printed and "step 2/2" in printed and "bits per byte" in printed, printed
    stranger.run(
        f"minigrad-train {TINY} --data book.txt --tokenizer bpe --vocab-size 300 --max-steps 2 --out-dir pieces"
    )
    printed = stranger.run("minigrad-sample pieces --prompt 'the ' --tokens 5")
    assert printed.startswith("the "), printed
    stranger.say("prepared a text, and trained on it in word pieces; trained on the text itself and sampled")

    printed = stranger.run("""python -c 'from minigrad.debug import explain; explain("layernorm")'""")
    page = Path(printed.split("The derivation: ")[1].strip())
    assert page.is_file() and "layernorm" in printed, printed
    stranger.say(f"explained layernorm from {page.relative_to(stranger.root)}")

    printed = stranger.run("minigrad-gradcheck --op add")
    assert "add" in printed, printed
    answer = stranger.run("minigrad-train --config nowhere/tiny.toml", status=2)
    assert answer.startswith("minigrad-train: ") and "shipped" in answer and answer.count("\n") == 1, answer
    stranger.say("gradcheck ran; a config that is not there was refused, naming the shipped ones")


def try_with(stranger, wheel, package, other):
    """Another distribution with a package of this name: installed after ours, before ours, and uninstalled."""
    distribution = other.name.split("-")[0]
    stranger.pip("install", "--no-deps", other)
    mend(stranger, package, distribution)
    stranger.say(f"{distribution} after ours: refused, and mended as the message says")

    stranger.pip("uninstall", "-y", "tiny-transformer-np")
    stranger.pip("install", "--no-deps", other)
    stranger.pip("install", "--no-deps", wheel)
    stranger.run("python -c 'import kernels, minigrad, tiny_transformer_np'")
    stranger.pip("uninstall", "-y", distribution)
    mend(stranger, package, distribution)
    stranger.say(
        f"{distribution} before ours: works; uninstalled with our files: refused, and mended as the message says"
    )


def mend(stranger, package, distribution):
    """Each of our commands and imports must refuse to work, in one line; what that line says to type must mend it."""
    importable = {"kernels": "minigrad", "minigrad": "kernels"}[package]  # of the two, the one that is still ours
    for module in (importable, "tiny_transformer_np"):
        last = stranger.run(f"python -c 'import {module}'", status=1).splitlines()[-1]
        assert last.startswith("ImportError: ") and "mend it with: " in last, last
    commands = "minigrad-train", "minigrad-sample", "minigrad-gradcheck", "python -m tiny_transformer_np.training"
    for command in commands:
        line = stranger.run(f"{command} --help", status=2)
        assert line.startswith(f"{command}: ") and line.count("\n") == 1, line
    mending = line.split("mend it with: ")[1].strip()
    words = shlex.split(mending)
    assert words[3:6] == ["uninstall", "-y", distribution] and "--force-reinstall" in words, mending
    stranger.run(mending)
    stranger.run("python -c 'import kernels, minigrad, tiny_transformer_np'")
    stranger.run("minigrad-train --help")


def main():
    if len(sys.argv) > 2 or not all(Path(arg).is_file() for arg in sys.argv[1:]):
        sys.exit("try_wheel.py: expected nothing, or one WHEEL that exists")
    with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
        root = Path(folder).resolve()
        stranger = Stranger(root)
        wheel = Path(sys.argv[1]).resolve() if sys.argv[1:] else build(root)
        stranger.say(f"the wheel: {wheel.name}")
        stranger.pip("install", wheel)
        stranger.say("installed into a fresh environment, with what it needs")
        try_the_wheel(stranger)
        for package, requirement in OTHERS.items():
            stranger.pip("wheel", "--no-deps", "-w", root / package, requirement)
            try_with(stranger, wheel, package, *(root / package).glob("*.whl"))
        stranger.say("all is well")


if __name__ == "__main__":
    main()
