"""What is shown to a person is short and steers no terminal."""

import io

import pytest

from kernels.system import cli
from kernels.system.printable import brief, printable, shown

CONTROLS = "".join(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F),
                             *range(0x2066, 0x206A), 0xD800, 0xDFFF]))  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_control_characters_are_visible_and_text_is_left_alone():
    assert printable("\x1b[31mred\r\x9b\u202e\udcff") == r"\x1b[31mred\r\x9b\u202e\udcff"
    assert not set(CONTROLS) & set(printable(CONTROLS)) and len(printable(CONTROLS)) > 4 * len(CONTROLS) - 8
    text = "line\n\ttab, é 日本語 العربية \U0001f468\u200d\U0001f469"  # a joiner belongs to the picture
    assert printable(text) == text


def test_files_get_the_text_itself():
    assert shown("\x1b", io.StringIO()) == "\x1b" and shown("\x1b", Terminal()) == r"\x1b"


HUGE = {
    "str": "x" * 10**6, "controls": "\x1b" * 10**6, "bytes": b"x" * 10**6, "digits": 10**4000, "bits": 1 << 10**6,
    "list": ["y" * 10**6] * 10**5, "dict": {str(i): "z" * 1000 for i in range(1000)}, "tuple": (1.5,) * 10**6,
}  # fmt: skip


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
def test_a_huge_value_is_named_in_few_words(value):
    assert 3 < len(brief(value)) < 700 and len(brief(value).splitlines()) == 1


def test_small_values_are_shown_whole_and_deep_ones_not():
    for value in (None, True, -1, 0.1, "it's", ["a", 1], {"b": [2]}, (1, 2)):
        assert brief(value) == repr(value)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert brief(deep) == "[[[...]]]"
    while deep:  # taken apart from outside: freeing it recursively is Python's own affair
        deep = deep.pop()


def test_error_messages_are_printable(capsys):
    cli.complain("prog", "no file \x1b]0;owned\x07 \u202egnp.exe\nsecond line")
    assert capsys.readouterr().err == "prog: no file \\x1b]0;owned\\x07 \\u202egnp.exe\nsecond line\n"


def test_numbers_that_diverge_are_one_line_and_status_1(capsys):
    @cli.command_line("prog")
    def main():
        raise FloatingPointError("the logits are not finite;\ntry a lower learning_rate")

    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert capsys.readouterr().err == "prog: the logits are not finite; try a lower learning_rate\n"
