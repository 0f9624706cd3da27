"""How the progress of `prepare` is shown: a bar on a terminal, elsewhere lines; a stream that fails ends nothing."""

import io
import sys

import pytest

from tiny_transformer_np.corpus.prepare import Summary
from tiny_transformer_np.training import prepare, progress
from tiny_transformer_np.training.progress import ByteProgress


class Stream(io.StringIO):
    def __init__(self, terminal, refuses=False):
        super().__init__()
        self.terminal, self.refuses = terminal, refuses

    def isatty(self):
        return self.terminal

    def write(self, text):
        if self.refuses:
            raise OSError(28, "No space left on device")
        return super().write(text)


def shown(monkeypatch, stream):
    """What a ByteProgress writes there of 300 MB, of which 100 MB were done before."""
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = ByteProgress()
    bar.begin("tokens", 300_000_000, 100_000_000)
    for _ in range(4):
        bar.advance(50_000_000)
    bar.end()
    return stream.getvalue() if stream else None


def test_elsewhere_a_line_says_every_ten_seconds_how_far_it_is(monkeypatch):
    assert shown(monkeypatch, Stream(terminal=False)) == (
        "tokens     200 of 300 MB, 10.0 MB/s, 0:10 left\ntokens     300 of 300 MB, 10.0 MB/s, 0:00 left\n"
    )


def test_a_terminal_has_a_bar_with_speed_and_time_left(monkeypatch):
    text = shown(monkeypatch, Stream(terminal=True))
    assert "\r" in text and "tokens" in text and "33%" in text and "100M/300M" in text and "B/s" in text
    assert "\x1b[3" not in text  # no color, whatever NO_COLOR is


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stream_that_refuses_output_ends_nothing(monkeypatch, terminal):
    assert shown(monkeypatch, Stream(terminal, refuses=True)) == ""
    assert shown(monkeypatch, None) is None


def test_a_wrong_setting_of_the_bar_ends_nothing(monkeypatch):
    monkeypatch.setenv("TQDM_NCOLS", "many")
    monkeypatch.setitem(sys.modules, "tqdm", None)
    shown(monkeypatch, Stream(terminal=True))


def test_the_summary_says_what_there_is_and_how_to_train_on_it(tmp_path):
    folder = tmp_path / "a b"
    splits = {"train": (1, 2_000_000, 8_000_000), "val": (30, 1000, 3500)}
    lines = prepare.describe(Summary(folder, 8192, splits, earlier=False), seconds=4).splitlines()
    assert lines[0] == "train     1 document, 2,000,000 tokens, 4.00 bytes a token"
    assert lines[1] == "val       30 documents, 1,000 tokens, 3.50 bytes a token"
    assert lines[2] == f"corpus    {folder}, vocabulary 8,192" and lines[3] == "time      0:04, 2.0 MB of text a second"
    assert lines[-1].endswith(f" --data '{folder}'")
