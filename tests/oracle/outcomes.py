"""How a call of minigrad ended, beside the same call of another library."""

import linecache
import re
import traceback
from pathlib import Path
from typing import NamedTuple

import kernels
import minigrad

EQUAL = "equal"
AMBIGUOUS = "ambiguous"  # refused by the table minigrad/ambiguous.py
REFUSED = "refused"  # with a clear error
MISSING = "missing"  # minigrad has no such name
UNCLEAR = "unclear"  # an error that tells a user little
DIFFERENT = "different"  # another value, gradient, shape or dtype, without a word
OUTCOMES = (EQUAL, AMBIGUOUS, REFUSED, MISSING, UNCLEAR, DIFFERENT)

HOME = tuple(str(Path(package.__file__).parent) for package in (minigrad, kernels))
CLEAR = (TypeError, ValueError, NotImplementedError, IndexError, RuntimeError, ZeroDivisionError)
WORDS_OF_PYTHON = re.compile(r"unexpected keyword argument|positional argument|multiple values for argument")
WORDS_OF_NUMPY = re.compile(
    r"could not be broadcast|is out of bounds for|cannot reshape array"
    r"|repeated axis|duplicate value in|axes don't match|an integer is required"
    r"|Integers to negative integer powers"
)


class Outcome(NamedTuple):
    kind: str
    detail: str = ""


def of_error(error):
    """The outcome of a call that raised `error`."""
    said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if isinstance(error, TypeError) and _is_in_table(str(error)):
        return Outcome(AMBIGUOUS, said)
    return Outcome(REFUSED if is_clear(error) else UNCLEAR, said)


def is_clear(error):
    """Whether it is one line, of a fitting type, said by minigrad, Python's check of arguments or NumPy's of shapes."""
    text = str(error)
    if not isinstance(error, CLEAR) or not text or "\n" in text:
        return False
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if frame.filename.startswith(HOME) and linecache.getline(frame.filename, frame.lineno).lstrip().startswith("raise"):
        return True
    words_of_python = WORDS_OF_PYTHON if isinstance(error, TypeError) else re.compile("$^")
    return bool(words_of_python.search(text) or WORDS_OF_NUMPY.search(text))


def _is_in_table(text):
    try:
        from minigrad.ambiguous import AMBIGUOUS as table
    except ImportError:
        return False
    return any(text == line or text.endswith(line) for line in table.values())
