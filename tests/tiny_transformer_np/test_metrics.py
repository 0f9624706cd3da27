"""metrics.jsonl and loss.png: perplexity stays finite, a kill costs a torn line at most, the picture is one."""

import contextlib
import errno
import gc
import io
import json
import math
import struct

import numpy as np
import pytest

from tiny_transformer_np.training.metrics import _CHUNK, MetricsLog, perplexity
from tiny_transformer_np.training.plots import _curve, _smoothed, draw_metrics


def train_row(step, loss=3.0, grad_norm=1.0):
    return {
        "kind": "train", "step": step, "loss": loss, "perplexity": perplexity(loss), "lr": 1e-3,
        "grad_norm": grad_norm, "tokens_per_second": 10.0, "elapsed_seconds": 2.0 * step,
    }  # fmt: skip


def eval_row(step, loss=3.0):
    return {"kind": "eval", "step": step, "val_loss": loss, "val_perplexity": perplexity(loss)}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def log_of(rows):
    log = MetricsLog()
    for row in rows:
        log.append(row)
    return log


def test_perplexity():
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(65)) == pytest.approx(65)
    for loss in (800.0, 1e6, 1e300, math.inf):
        assert math.isfinite(perplexity(loss))


def test_rows_are_on_disk_at_once_and_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    rows = [train_row(1), eval_row(1), train_row(2, loss=0.1 + 0.2)]
    for n, row in enumerate(rows, 1):
        log.append(row)
        assert path.read_text() == lines(rows[:n])
    assert log.rows == MetricsLog(path, last_step=2).rows == rows
    assert path.read_text() == lines(rows)


@pytest.mark.parametrize("torn", ['{"kind": "tr', '{"kind":"train","step":3}', "\0" * 40])
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    rows = [train_row(1), train_row(2)]
    path.write_text(lines(rows) + torn)
    log = MetricsLog(path, last_step=9)
    assert log.rows == rows and not log.unreadable
    log.append(eval_row(3))
    assert path.read_text() == lines([*rows, eval_row(3)])


@pytest.mark.parametrize("last_step", [1, 2])
def test_a_last_row_that_lacks_only_its_line_break_is_none_that_was_torn(tmp_path, last_step):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines([train_row(1), train_row(2)]).rstrip("\n"))
    assert MetricsLog(path, last_step).rows == [train_row(1), train_row(2)][:last_step]
    assert path.read_text() == lines([train_row(1), train_row(2)][:last_step])


UNREADABLE = {
    "blank": b"", "blanks": b"  ", "torn": b'{"kind": "train", "st', "zeros": b"\0" * 40, "list": b"[1]",
    "number": b"7", "a mark of an editor": b"\xef\xbb\xbf" + json.dumps(train_row(1)).encode(),
    "latin-1": b'{"kind": "\xe9"}',
    "two rows": json.dumps(eval_row(1)).encode() * 2, "two with a comma": b"{},{}", "closed": b"],[",
    "deep": b"[" * 10**5, "keys missing": b'{"kind": "eval", "step": 1}',
    "kind": json.dumps({**eval_row(1), "kind": "test"}).encode(),
    "no kind": b"{}", "kinds": json.dumps({**eval_row(1), "kind": ["eval"]}).encode(),
    **{f"step {step}": json.dumps({**eval_row(1), "step": step}).encode()
       for step in (1.0, -1, "1", None, True, 10**30, [1])},
    **{f"loss {loss}": json.dumps({**eval_row(1), "val_loss": loss}).encode()
       for loss in (math.nan, math.inf, "1", None, True, 10**400, {"a": 1})},
}  # fmt: skip


@pytest.mark.parametrize("line", UNREADABLE.values(), ids=UNREADABLE)
def test_a_line_that_is_no_row_costs_no_other(tmp_path, line):
    """It stays where it is, and rows behind it stay too unless their steps are to come again."""
    path = tmp_path / "metrics.jsonl"
    rows = [train_row(step) for step in range(1, 9)]
    parts = [lines(rows[:3]).encode(), line + b"\n", lines(rows[3:6]).encode(), line + b"\n", lines(rows[6:]).encode()]
    path.write_bytes(b"".join(parts))
    log = MetricsLog(path, last_step=8)
    assert log.rows == rows and log.unreadable == 2 and path.read_bytes() == b"".join(parts)
    log = MetricsLog(path, last_step=2)
    assert log.rows == rows[:2] and log.unreadable == 2
    assert path.read_bytes() == lines(rows[:2]).encode() + (line + b"\n") * 2
    log.append(train_row(3))
    assert MetricsLog(path, last_step=3).rows == rows[:3]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_lines_that_are_rows_only_when_joined_are_none(tmp_path):
    """Lines are parsed many at a time, with commas between them."""
    path = tmp_path / "metrics.jsonl"
    row = json.dumps(eval_row(1))
    for broken in ((row[:-1], row[1:]), (row[:-1] + ', "x": [{}', "{}]}", "{},{}"), ('"', '"'), (row + ",", "")):
        path.write_text(lines([train_row(1)]) + "".join(f"{line}\n" for line in broken))
        before = path.read_bytes()
        log = MetricsLog(path, last_step=9)
        assert log.rows == [train_row(1)] and log.unreadable == len(broken) and path.read_bytes() == before


def test_rows_that_an_editor_wrote_are_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [train_row(1), eval_row(1), train_row(2)]
    extended = {**eval_row(2), "note": {"of": ["mine"]}}
    path.write_text(lines([*rows, extended]).replace("\n", "\r\n").replace('"step": 2', '"step":  2'), newline="")
    log = MetricsLog(path, last_step=2)
    assert log.rows == [*rows, eval_row(2)] and not log.unreadable


def test_rows_past_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [train_row(1), train_row(2), eval_row(2), train_row(3), eval_row(3)]
    path.write_text(lines(rows))
    log = MetricsLog(path, last_step=2)
    assert log.rows == rows[:3]
    assert path.read_text() == lines(rows[:3])
    assert log.elapsed_seconds == 4.0
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert MetricsLog(path, last_step=0).rows == [] and path.read_text() == ""


def test_more_rows_than_are_parsed_at_a_time(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [train_row(step, 4 / step) for step in range(1, 6001)]
    path.write_text("?\n" + lines(rows) + "?\n")
    assert path.stat().st_size > _CHUNK
    for last_step in (6000, 5999, 4000):
        log = MetricsLog(path, last_step)
        assert log.unreadable == 2 and log.columns("train")["step"].tolist() == list(range(1, last_step + 1))
        assert path.read_text() == "?\n" + lines(rows[:last_step]) + "?\n"
    assert log.columns("train")["loss"][-1] == 4 / 4000


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    """Runs are copied from one machine to another; a name in them must not lead out."""
    target, path = tmp_path / "target", tmp_path / "metrics.jsonl"
    target.write_text(lines([train_row(1), train_row(2)]))
    path.symlink_to("target")
    MetricsLog(path, last_step=1).append(eval_row(1))
    assert target.read_text() == lines([train_row(1), train_row(2)])
    assert path.read_text() == lines([train_row(1), eval_row(1)]) and not path.is_symlink()


def test_a_new_log_starts_empty_and_its_clock_at_zero(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.rows == [] and log.elapsed_seconds == 0.0 and not list(tmp_path.iterdir())
    assert MetricsLog().rows == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_json_is_not_written(tmp_path, value):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        log.append({"kind": "train", "step": 1, "loss": value})
    assert log.rows == [] and not log.path.exists()


@contextlib.contextmanager
def files_of_at_most(size):
    """No file of this process may grow beyond so many bytes: as on a full disk, a write is cut short or refused."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.posix
def test_rows_that_the_disk_refuses_are_written_with_the_next_and_no_half_of_one_is_left(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [train_row(step) for step in range(1, 6)]
    log = MetricsLog(path)
    log.append(rows[0])
    with files_of_at_most(path.stat().st_size * 3 // 2):
        for row in rows[1:4]:
            with pytest.raises(OSError, match="too large"):
                log.append(row)
            assert path.read_text() == lines(rows[:1])
    assert log.rows == rows[:4]
    log.append(rows[4])
    assert path.read_text() == lines(rows)


@pytest.mark.posix
def test_a_half_of_a_row_that_could_not_be_cut_off_is_cut_off_before_the_next(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append(train_row(1))

    class Failing(io.FileIO):
        def truncate(self, size=None):
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched, files_of_at_most(path.stat().st_size + 20):
        patched.setattr("builtins.open", lambda path, mode, **_: Failing(path, mode))
        with pytest.raises(OSError):
            log.append(train_row(2))
    assert path.stat().st_size == len(lines([train_row(1)])) + 20
    log.append(train_row(3))
    assert path.read_text() == lines([train_row(1), train_row(2), train_row(3)])


@pytest.mark.posix
def test_a_log_that_cannot_be_opened_on_a_full_disk_is_written_later(tmp_path):
    """Rows past the checkpoint are not there any more once it is. The line between them asks for a new file."""
    path = tmp_path / "metrics.jsonl"
    before = lines([train_row(1), train_row(2)]) + "?\n" + lines([train_row(3)])
    path.write_text(before)
    with files_of_at_most(20):
        log = MetricsLog(path, last_step=1)
        with pytest.raises(OSError):
            log.append(train_row(2, loss=2.0))
    assert path.read_text() == before and [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
    log.flush()
    assert path.read_text() == lines([train_row(1)]) + "?\n" + lines([train_row(2, loss=2.0)])


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
    draw_metrics(log_of(rows), path)
    width, height = png_size(path)
    assert 600 <= width <= 2000 and 400 <= height <= 2000
    assert 10_000 < path.stat().st_size < 500_000
    assert [file.name for file in path.parent.iterdir()] == ["loss.png"]


def test_the_picture_shows_the_rows(tmp_path):
    """Different rows, different picture; equal rows, equal bytes."""
    pictures = []
    for factor in (1.0, 1.0, 2.0):
        draw_metrics(log_of(train_row(step, factor * 4 / step) for step in range(1, 9)), tmp_path / "loss.png")
        pictures.append((tmp_path / "loss.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_curve_of_many_points_keeps_its_lowest_and_highest():
    steps, values = np.arange(30_001), np.random.default_rng(0).standard_normal(30_001)
    some, chosen = _curve({"step": steps, "loss": values}, "loss")
    assert len(chosen) == 4001 and (np.diff(some) > 0).all() and (values[some] == chosen).all()
    for start in range(0, 30_000, 15):
        of_stretch = values[some[(some >= start) & (some < start + 15)]]
        assert values[start : start + 15].min() in of_stretch and values[start : start + 15].max() in of_stretch
    few = _curve({"step": steps[:3999], "loss": values[:3999]}, "loss")
    assert len(few[0]) == 3999


def test_the_smoothed_curve_is_the_average_with_falling_weights():
    values = np.random.default_rng(0).standard_normal(50)
    weights = 0.9 ** np.arange(50.0)
    expected = [np.average(values[: n + 1], weights=weights[n::-1]) for n in range(50)]
    np.testing.assert_allclose(_smoothed(values), expected, rtol=1e-12)


def test_a_picture_leaves_nothing_in_memory(tmp_path):
    """With the cyclic collector off: what the parts of a figure hold of each other would stay for ever."""
    log = log_of([train_row(step) for step in range(1, 9)])
    gc.collect()
    gc.disable()
    try:
        draw_metrics(log, tmp_path / "loss.png")  # caches are filled
        before = len(gc.get_objects())
        draw_metrics(log, tmp_path / "loss.png")
        assert len(gc.get_objects()) - before < 500  # a figure has 16,000
    finally:
        gc.enable()
