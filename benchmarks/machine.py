"""The description of the machine that a benchmark ran on, and the files of its results."""

import json
import platform
import time
from pathlib import Path

import numba
import numpy

from kernels.system.files import writing


def describe(threads):
    """{"processor", "threads", "python", "numpy", "numba", "torch", "date"}."""
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    try:
        import torch
    except ImportError:
        torch = None
    return {
        "processor": names[0] if names else platform.processor(), "cores": len(names), "threads": threads,
        "python": platform.python_version(), "numpy": numpy.__version__, "numba": numba.__version__,
        "torch": torch and torch.__version__, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def _lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def sentence(about):
    """The description in a line."""
    return ", ".join(f"{key} {value}" for key, value in about.items() if value)


def write(path, about, lines, rows):
    """Write path.md (text) and path.json (data)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path.with_suffix(".json")) as file:
        file.write((json.dumps({"machine": about, "rows": rows}, indent=1) + "\n").encode())
    with writing(path.with_suffix(".md")) as file:
        file.write("\n".join([sentence(about), "", "```text", *lines, "```", ""]).encode())
