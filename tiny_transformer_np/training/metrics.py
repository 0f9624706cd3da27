"""metrics.jsonl: one JSON object a line, appended as the run goes on."""

import json
import math
from pathlib import Path

from kernels.system.files import replacing


def perplexity(loss):
    """exp(loss): among how many equally likely tokens the model hesitates. Limited, so that it never overflows."""
    return math.exp(min(loss, 700.0))


def read(path):
    """All rows of a file, as dicts; a torn last line, left by a kill, is passed over."""
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:  # what follows the last newline is torn
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # a block of zeros after a power cut
    return rows


class MetricsLog:
    """Rows in memory and, given a path, on disk. On opening, rows of steps after `last_step` are dropped."""

    def __init__(self, path=None, last_step=0):
        self.path = path
        self.rows = [row for row in read(path) if row["step"] <= last_step] if path else []
        if path:
            with replacing(path) as partial:
                partial.write_text("".join(map(_line, self.rows)), encoding="utf-8")

    def append(self, row):
        """Add a row and hand it to the operating system at once."""
        self.rows.append(row)
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(_line(row))

    @property
    def elapsed_seconds(self):
        """Training time up to the last row, over all sessions."""
        return next((row["elapsed_seconds"] for row in reversed(self.rows) if "elapsed_seconds" in row), 0.0)


def _line(row):
    return json.dumps(row, allow_nan=False) + "\n"
