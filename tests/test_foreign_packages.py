"""What pip may do to an installation: another distribution's `kernels` or `minigrad` put over ours, or deleted with it.

With distributions made up here; tests/try_wheel.py does the same with the real ones.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import kernels
import minigrad
import tiny_transformer_np
import tiny_transformer_np_package_check as install
from kernels.system import cli

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    "tiny_transformer_np.training", "tiny_transformer_np.sampling",
    "minigrad.gradient_checking", "minigrad.compare_steps",
]  # fmt: skip
OTHERS = "other-packages"  # a distribution that has a kernels and a minigrad too
FOREIGN = "def get_kernel(name): ...\n"


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages: ours, and what is left of another distribution's metadata."""
    site = tmp_path / "site"
    for package in install.PACKAGES:
        shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__", "*.cu"))
    shutil.copy(install.__file__, site)
    _metadata(site, install.DISTRIBUTION, install.PACKAGES)
    return site


def _metadata(site, name, packages):
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "RECORD").write_text("".join(f"{package}/__init__.py,,\n" for package in packages))
    return folder


def python(site, *args):
    """Python with `site` as its installed packages, in another folder."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONSAFEPATH", "PYTHONSTARTUP")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, site if isinstance(site, tuple) else (site,)))
    folder = site[-1] if isinstance(site, tuple) else site
    return subprocess.run(
        [sys.executable, *args], cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=60
    )


def mending(message):
    """The two commands at the end of a message: (what is uninstalled, what is installed)."""
    pip = r"\S+ -m pip"
    found = re.search(
        rf"mend it with: {pip} uninstall -y (.+) && {pip} install --force-reinstall --no-deps (.+)", message
    )
    assert found, message
    return found.groups()


def one_line(result):
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1, result
    return result.stderr


def put_over(site, name):
    """Another distribution is installed after ours: its file takes the place of ours."""
    (site / name / "__init__.py").write_text(FOREIGN)
    _metadata(site, OTHERS, [name])


def removed(site, name):
    """Another distribution was installed, and is uninstalled again: what both had is deleted."""
    (site / name / "__init__.py").unlink()


@pytest.mark.parametrize(
    ("happened", "name", "words"),
    [
        (put_over, "kernels", "the module kernels found at SITE/kernels/__init__.py is not the one of"),
        (put_over, "minigrad", "the module minigrad found at SITE/minigrad/__init__.py is not the one of"),
        (put_over, "cudasim", "the module cudasim found at SITE/cudasim/__init__.py is not the one of"),
        (removed, "cudasim", "the package cudasim of tiny-transformer-np is damaged"),
        (removed, "kernels", "the package kernels of tiny-transformer-np is damaged"),
        (removed, "minigrad", "the package minigrad of tiny-transformer-np is damaged"),
    ],
)
def test_a_foreign_or_damaged_package_is_named_with_the_commands_that_mend_it(site, happened, name, words):
    happened(site, name)
    expected = (OTHERS if happened is put_over else name, install.DISTRIBUTION)
    for package in {"kernels", "minigrad._tensor", "minigrad.nn", "tiny_transformer_np"} - {name}:
        result = python(site, "-c", f"import {package}")
        last = result.stderr.splitlines()[-1]
        assert last.startswith(f"ImportError: {words.replace('SITE', str(site))}"), result.stderr
        assert mending(last) == expected
    for command in COMMANDS:
        assert mending(one_line(python(site, "-m", command, "--help"))) == expected
    script = site / "minigrad-train"
    script.write_text("from tiny_transformer_np.training.__main__ import main\nmain()\n")
    assert one_line(python(site, script, "--help")).startswith("minigrad-train: the ")


def test_both_packages_of_others_are_named_in_one_line(site):
    put_over(site, "kernels")
    removed(site, "minigrad")
    message = one_line(python(site, "-m", "tiny_transformer_np.training"))
    assert "kernels found at" in message and "minigrad of tiny-transformer-np is damaged" in message


def test_what_was_installed_is_what_is_installed_again(site):
    put_over(site, "kernels")
    origin = site / "tiny_transformer_np-1.0.dist-info" / "direct_url.json"
    for url, expected in (
        ("file:///downloads/with%20space/a.whl", "'/downloads/with space/a.whl'"),
        ("https://host/a.whl", "'tiny-transformer-np @ https://host/a.whl'"),
    ):
        origin.write_text(f'{{"url": "{url}", "archive_info": {{}}}}')
        assert mending(one_line(python(site, "-m", "tiny_transformer_np.training")))[1] == expected


def test_extras_are_installed_by_the_interpreter_that_ran(monkeypatch, tmp_path):
    monkeypatch.setattr(install, "interpreter", lambda: "env/bin/python")
    monkeypatch.chdir(ROOT)
    assert install.pip_install("cuda13") == "env/bin/python -m pip install -e '.[cuda13]'"
    monkeypatch.chdir(tmp_path)
    assert install.pip_install("cuda13") == f"env/bin/python -m pip install -e '{ROOT}[cuda13]'"


def test_a_file_of_ones_own_that_hides_ours_is_named(site, tmp_path):
    own = tmp_path / "own"
    (own / "kernels").mkdir(parents=True)  # a folder is hidden by a package that comes later
    assert python((own, site), "-c", "import minigrad").returncode == 0
    (own / "kernels.py").write_text("x = 1\n")
    message = one_line(python((own, site), "-m", "tiny_transformer_np.training"))
    assert f"{own / 'kernels.py'} is not the one of" in message and "rename it" in message and "pip" not in message


def test_a_folder_that_hides_an_editable_install_is_named(site, tmp_path):
    """Such an install is found by a finder that Python asks last."""
    (tmp_path / "kernels").mkdir()
    finder = "import sys, importlib.machinery as m; sys.meta_path.append(type('Last', (), {'find_spec': staticmethod("
    finder += (
        f"lambda name, path=None, target=None: m.PathFinder.find_spec(name, [{str(site)!r}]))}})); import minigrad"
    )
    result = python((tmp_path, tmp_path / "nothing"), "-c", finder)
    words = (
        f"ImportError: the module kernels found at {tmp_path / 'kernels'} is not the one of tiny-transformer-np; rename"
    )
    assert result.stderr.splitlines()[-1].startswith(words), result.stderr


def test_commands_speak_under_the_name_they_were_started_by(monkeypatch):
    for started, name in (
        ("env/bin/minigrad-train", "minigrad-train"),
        ("train.py", "usual"),
        ("x/__main__.py", "usual"),
    ):
        monkeypatch.setattr(sys, "argv", [started])
        assert cli.program("usual") == name


def test_ours_put_over_others_work(site):
    (site / "kernels" / "hub.py").write_text(FOREIGN)
    _metadata(site, OTHERS, ["kernels"])
    result = python(site, "-c", "import kernels, minigrad, tiny_transformer_np; print(kernels.__version__)")
    assert result.stdout == f"{install.__version__}\n", result.stderr


def test_the_version_is_the_same_everywhere():
    versions = {package.__version__ for package in (kernels, minigrad, tiny_transformer_np, install)}
    assert len(versions) == 1
    try:
        assert {importlib.metadata.version(install.DISTRIBUTION)} == versions
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        assert re.fullmatch(r"\d+\.\d+\.\d+", *versions)


def test_the_wheel_has_every_package_and_no_other_module():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    text = (ROOT / "setup.py").read_text(encoding="utf-8")  # which takes folders with an __init__.py for packages
    assert f"NAMES = {install.PACKAGES}".replace("'", '"') in text
    assert all(f'"{name}"' in text for name in settings["package-dir"])
    assert settings["py-modules"] == [install.__name__]
    kinds = {Path(file).suffix for file in settings["package-data"]["*"]} | {".py"}
    files = [path for name in install.PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()]
    assert all((path.parent / "__init__.py").is_file() for path in files if path.suffix == ".py")
    assert {path.suffix for path in files if "__pycache__" not in path.parts} <= kinds
