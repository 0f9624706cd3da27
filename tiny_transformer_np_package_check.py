"""The distribution's name, version and packages, and a check that the packages found are its own.

Each of them except cudasim imports this module first.

Other distributions have a `kernels` and a `minigrad` too. pip installs files over files of the same name, and
uninstalling one distribution deletes what both had. So each of our packages checks all of them on import, and
raises ImportError for a foreign or damaged one. Only cudasim does not: it imports nothing of the project.
"""

import contextlib
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

__version__ = "0.2.0"
DISTRIBUTION = "tiny-transformer-np"
PACKAGES = ("cudagates", "cudasim", "kernels", "minigrad", "tiny_transformer_np")
TRAINING_STEP = "tiny_transformer_np.training.make_step:make_step"  # what `minigrad.compare_steps` compares by default
_HERE = Path(__file__).resolve().parent  # where our packages lie too


def require_our_packages() -> None:
    """ImportError if one is not ours, with the commands that mend it; our command lines print that and exit with 2."""
    foreign = [name for name in PACKAGES if not _is_ours(name)]
    if not foreign:
        return
    message = _explanation(foreign)
    if command := _command():
        print(f"{command}: {message}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(message)


def _is_ours(name: str) -> bool:
    """Whether the package that Python finds by this name imports this module, or names the distribution, as ours do."""
    place = _place(name)
    if place is None or os.path.isdir(place):
        return False
    try:
        text = Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # compiled files alone, or an archive
        return True
    return f"from {__name__} import" in text or f"of the distribution {DISTRIBUTION}" in text


def _place(name: str) -> str | None:
    """The file or folder without __init__.py that Python imports by this name; None where that was ours, or nothing."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module made by hand, which has no spec
        return None
    if spec is None:
        return None
    folders = spec.submodule_search_locations or ()
    return spec.origin or next((folder for folder in folders if not _is_beside(folder)), None)


def _is_beside(place: str | Path) -> bool:
    """Whether this lies where our packages do."""
    return _HERE in Path(place).resolve().parents


def _explanation(foreign: Sequence[str]) -> str:
    """One line: what was found in place of our packages, and how to put that right."""
    from importlib import metadata  # needed here alone, and slow

    places = {name: _place(name) for name in foreign}
    found = [
        f"the module {name} found at {place} is not the one of {DISTRIBUTION}" if place
        else f"the package {name} of {DISTRIBUTION} is damaged: its __init__.py is gone"
        for name, place in places.items()
    ]  # fmt: skip
    others = sorted({other for place in places.values() if place for other in _owners(metadata, Path(place))})
    if not others and not any(place is None or _is_beside(place) for place in places.values()):
        return f"{' and '.join(found)}; rename it, or start Python where it is not found"
    pip = f"{interpreter()} -m pip"
    return (
        f"{' and '.join(found)}; mend it with: {pip} uninstall -y {' '.join(others or foreign)} && "
        f"{pip} install --force-reinstall --no-deps {_origin(metadata)}"
    )


def _owners(metadata: ModuleType, place: Path) -> Iterator[str]:
    """The names of the other distributions that installed the file at `place`."""
    for other in metadata.distributions():
        site = Path(other.locate_file(""))
        if site not in place.parents:
            continue
        record, name = other.read_text("RECORD") or "", other.metadata["Name"] or ""
        listed = f"\n{place.relative_to(site).as_posix()}," in f"\n{record}"
        if listed and name.lower().replace("_", "-") != DISTRIBUTION:
            yield name


def _origin(metadata: ModuleType, extra: str = "") -> str:
    """What to give to `pip install`: the checkout that this lies in, or what was installed, or its name."""
    if (_HERE / "pyproject.toml").exists():
        checkout = "." if Path.cwd() == _HERE else str(_HERE)
        return f"-e {shlex.quote(checkout + extra)}"
    import json
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        url = json.loads(metadata.distribution(DISTRIBUTION).read_text("direct_url.json"))["url"]
    except (metadata.PackageNotFoundError, ValueError, TypeError, KeyError):
        return shlex.quote(DISTRIBUTION + extra)
    if url.startswith("file:"):
        return shlex.quote(url2pathname(urlsplit(url).path) + extra)
    return shlex.quote(f"{DISTRIBUTION}{extra} @ {url}")


def pip_install(extra: str) -> str:
    """The command that installs one of the distribution's extras, as one would type it here."""
    from importlib import metadata

    return f"{interpreter()} -m pip install {_origin(metadata, f'[{extra}]')}"


def _command() -> str | None:
    """The name of our command line that this process is; None for any other program."""
    started = Path(sys.argv[0] if sys.argv else "").name
    if started.startswith("minigrad-"):
        return started
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    module = spec.name if spec else ""
    if started == "-m":  # Python is still looking for the module
        words = sys.orig_argv
        module = words[words.index("-m") + 1] if "-m" in words else ""
    return f"python -m {module.removesuffix('.__main__')}" if module.split(".")[0] in PACKAGES else None


def interpreter() -> str:
    """This Python as one would type it here: `python` where that is the one, else its path."""
    for name in ("python", "python3"):
        if (found := shutil.which(name)) and os.path.abspath(found) == os.path.abspath(sys.executable):
            return name
    path = Path(sys.executable)
    with contextlib.suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))


require_our_packages()
