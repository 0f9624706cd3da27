"""What a run shows of itself comes out whole, whenever a signal's handler has something to say too."""

import io

import pytest

from tiny_transformer_np.training.progress import Progress


class Interrupted(io.RawIOBase):
    """A file; in the middle of the first write to it after `handler` is set, that is called, as a signal would."""

    def __init__(self, terminal):
        self.terminal, self.handler, self.written = terminal, None, b""

    def writable(self):
        return True

    def isatty(self):
        return self.terminal

    def write(self, data):
        self.written += bytes(data)
        if self.handler:
            handler, self.handler = self.handler, None
            handler()
        return len(data)


@pytest.mark.parametrize(
    "terminal, during", [(False, "a line"), (True, "a line"), (True, "a step"), (True, "the end of the bar")]
)
def test_a_handler_speaks_in_the_middle_of_a_write(terminal, during):
    raw = Interrupted(terminal)
    progress = Progress(stream=io.TextIOWrapper(io.BufferedWriter(raw), write_through=True))
    with progress.running(0, 10):
        raw.handler = lambda: progress.say("stopping")
        if during == "a line":
            progress.say("step 9")
        elif during == "a step":
            progress.step(10, 1.0, 1e-3, 1.0, 100.0)
    progress.say("the last")
    shown = raw.written.decode()
    assert shown.count("stopping") == 1 and shown.endswith("the last\n")
    assert during != "a line" or shown.index("step 9") < shown.index("stopping")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_no_control_characters_of_a_sample(terminal):
    raw = Interrupted(terminal)
    Progress(stream=io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", write_through=True)).sample("a\x1b[2Jb\nc")
    assert raw.written.decode().split() == ["|", r"a\x1b[2Jb" if terminal else "a\x1b[2Jb", "|", "c"]
