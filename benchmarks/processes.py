"""Processes that a benchmark measures: asked for work in turns, and their memory. All but `Child` needs Linux."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Child:
    """A process of `python -m MODULE ARGS...` that answers each number on its standard input with a line of JSON."""

    def __init__(self, module, *args):
        command = [sys.executable, "-m", module, *map(str, args)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, number):
        """Its answer to this number; None if the process has ended."""
        try:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else None

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def anonymous(pid="self"):
    """Resident bytes of a process that belong to no file: not those of a memory-mapped corpus."""
    return _field(Path(f"/proc/{pid}/status").read_text(), "RssAnon")


def timed(command, cores, log):
    """Run a command on `cores` of this process' cores -> (seconds, most resident bytes at once of it and its children).

    log: the file that gets its output. Pages that several processes share count once (Pss), those of files too.
    Raises CalledProcessError with the end of the output if it fails.
    """
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    with open(log, "wb") as file:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )  # fmt: skip
        peak, ended = [0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, ended, peak))
        watcher.start()
        status = process.wait()
        seconds = time.perf_counter() - started
        ended.set()
        watcher.join()
    if status:
        raise subprocess.CalledProcessError(status, command, Path(log).read_text(errors="replace")[-2000:])
    return seconds, peak[0]


def _watch(pid, ended, peak):
    """Keep the most memory of the process and its children in peak[0], looked at ten times a second."""
    while not ended.wait(0.1):
        peak[0] = max(peak[0], sum(map(_proportional, tree(pid))))


def tree(pid):
    """The process' id and those of all its children, and theirs."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def _proportional(pid):
    with contextlib.suppress(OSError):
        return _field(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Pss")
    return 0


def _field(text, name):
    """The bytes that a line "name:   123 kB" says."""
    return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:")), 0)
