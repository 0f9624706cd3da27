"""metrics.jsonl and loss.png: perplexity stays finite, a kill costs a torn line at most, the picture is one."""

import json
import math
import struct

import pytest

from tiny_transformer_np.training.metrics import MetricsLog, perplexity, read
from tiny_transformer_np.training.plots import draw_metrics


def train_row(step, loss=3.0, grad_norm=1.0):
    return {
        "kind": "train", "step": step, "loss": loss, "perplexity": perplexity(loss), "lr": 1e-3,
        "grad_norm": grad_norm, "tokens_per_second": 10.0, "elapsed_seconds": 2.0 * step,
    }  # fmt: skip


def eval_row(step, loss=3.0):
    return {"kind": "eval", "step": step, "val_loss": loss, "val_perplexity": perplexity(loss)}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_perplexity():
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(65)) == pytest.approx(65)
    for loss in (800.0, 1e6, 1e300, math.inf):
        assert math.isfinite(perplexity(loss))


def test_rows_are_on_disk_at_once_and_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    assert path.read_text() == ""
    rows = [train_row(1), eval_row(1), train_row(2, loss=0.1 + 0.2)]
    for n, row in enumerate(rows, 1):
        log.append(row)
        assert read(path) == rows[:n]
    assert MetricsLog(path, last_step=2).rows == rows
    assert read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("torn", ['{"kind": "tr', '{"kind":"train","step":3}', "\0" * 40, "\0" * 40 + "\n"])
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    """Without its line break a line may be short of digits, so even one that parses does not count."""
    path = tmp_path / "metrics.jsonl"
    rows = [train_row(1), train_row(2)]
    path.write_text(lines(rows) + torn)
    assert read(path) == rows
    log = MetricsLog(path, last_step=9)
    log.append(eval_row(3))
    assert path.read_text() == lines([*rows, eval_row(3)])


def test_rows_past_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [train_row(1), train_row(2), eval_row(2), train_row(3), eval_row(3)]
    path.write_text(lines(rows))
    log = MetricsLog(path, last_step=2)
    assert log.rows == rows[:3]
    assert path.read_text() == lines(rows[:3])
    assert log.elapsed_seconds == 4.0
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_new_log_starts_empty_and_its_clock_at_zero(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines([train_row(1)]))
    log = MetricsLog(path)
    assert log.rows == [] and path.read_text() == ""
    assert log.elapsed_seconds == 0.0
    assert MetricsLog().rows == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_json_is_not_written(tmp_path, value):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        log.append({"kind": "train", "step": 1, "loss": value})
    assert read(log.path) == []


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:])


@pytest.mark.parametrize(
    "rows",
    [
        [row for step in range(1, 40) for row in (train_row(step, 4 / step), eval_row(step, 5 / step))],
        [train_row(1)],
        [train_row(1, grad_norm=0.0)],  # nothing to show on a logarithmic axis
        [eval_row(1)],
        [],
    ],
    ids=["run", "one row", "zero norm", "eval only", "nothing"],
)
def test_the_picture_is_a_png(tmp_path, rows):
    path = tmp_path / "run" / "loss.png"
    draw_metrics(rows, path)
    width, height = png_size(path)
    assert 600 <= width <= 2000 and 400 <= height <= 2000
    assert 10_000 < path.stat().st_size < 500_000
    assert [file.name for file in path.parent.iterdir()] == ["loss.png"]


def test_the_picture_shows_the_rows(tmp_path):
    """Different rows, different picture; equal rows, equal bytes."""
    pictures = []
    for factor in (1.0, 1.0, 2.0):
        draw_metrics([train_row(step, factor * 4 / step) for step in range(1, 9)], tmp_path / "loss.png")
        pictures.append((tmp_path / "loss.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
