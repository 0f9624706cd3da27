"""Every elementwise function is as accurate as `minigrad.accuracy` says, over the whole range of each dtype."""

import importlib.util
import re
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad.accuracy import __main__ as command
from minigrad.accuracy import formats, functions, measure, table
from minigrad.ops import activation, elementwise, small_arrays

ROOT = Path(__file__).resolve().parents[2]
NAMES = [function.name for function in functions.FUNCTIONS]
WITH_KERNELS = [function.name for function in functions.FUNCTIONS if function.kernels]


def problems(count, name, device=False, seed=0):
    return [problem for row in table.rows(count, name, device, seed) for problem in row.problems()]


@pytest.mark.parametrize("name", NAMES)
def test_no_result_is_off_by_more_than_four_units(name):
    assert problems(300, name) == []


@pytest.mark.parametrize("name", ["tanh", "silu", "relu", "abs"])
def test_few_elements_are_as_accurate_as_many(name, monkeypatch):
    monkeypatch.setattr(small_arrays, "FEW", 10_000)  # these functions go another way up to FEW elements
    assert problems(300, name) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_of_a_few_elements_that_are_not_large_has_an_accurate_gradient(dtype):
    """Beside numbers above 10, as in the table, the few go the way of the many."""
    x = np.linspace(-10, 10, 4000, dtype=dtype).reshape(-1, 50)
    assert all(small_arrays.all_within(few, 10) for few in x)
    found = np.stack([activation.tanh_backward(np.ones_like(few), few) for few in x])
    exact = 1 / np.cosh(x.astype(np.longdouble)) ** 2
    slope = np.abs(2 * x * np.tanh(x))  # f(x (1 + d)) is f(x) (1 + slope d)
    assert (np.abs(found / exact - 1) <= 4 * (np.finfo(dtype).eps / 2) * (1 + slope)).all()


@pytest.mark.compiler
@pytest.mark.parametrize("name", WITH_KERNELS)
def test_no_result_is_off_by_more_than_four_units_on_the_simulated_device(name):
    assert problems(300, name, device=True) == []


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.parametrize("name", NAMES)
def test_no_result_of_many_is_off_by_more_than_four_units(name):
    assert problems(1500, name, device=True, seed=1) == []


def test_a_sigmoid_that_loses_its_left_tail_is_found(monkeypatch):
    """A seeded bug: an absolute tolerance would not see it."""
    monkeypatch.setattr(activation, "_sigmoid", lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)))
    found = problems(300, "sigmoid")
    assert {line.split(",")[1].strip() for line in found} == {"float16", "float32", "float64"}
    assert "forward in ulp" in "".join(found)


@pytest.mark.parametrize("units", [1.0, 5.0])
def test_an_error_of_five_units_is_found_and_one_of_one_unit_is_not(units, monkeypatch):
    right = elementwise.exp_backward
    monkeypatch.setattr(elementwise, "exp_backward", lambda dout, out: right(dout, out) * (1 + units * 2.0**-11))
    found = [row for row in table.rows(300, "exp", device=False) if row.format == "float16" and list(row.problems())]
    assert bool(found) == (units > 4)


def test_gradients_that_vanish_before_they_must_are_found(monkeypatch):
    monkeypatch.setattr(activation, "tanh_backward", lambda dout, x: dout * (1 - np.tanh(x) ** 2))
    assert problems(300, "tanh")


def test_there_are_at_most_ten_exemptions_each_with_its_reason_and_of_a_function_that_exists():
    assert len(functions.EXEMPTIONS) <= 10
    for exemption in functions.EXEMPTIONS:
        assert (
            exemption.function in NAMES
            and len(exemption.reason) > 20
            and exemption.allowed <= 12
            and (exemption.steps <= 2 or "smallest normal number" in exemption.reason)
        )


# ------------------------------------------------------------------------------------------------ what is held


def is_elementwise(function):
    """Whether each number of its result is a function of the numbers at its place, and is not simply one of them.

    That is tried, with arrays and with their numbers one by one, with one, two and three of them.
    """
    rng = np.random.default_rng(0)
    for n in (1, 2, 3):
        for keywords in ({}, {"reduction": "none"}):
            arrays = [rng.uniform(0.2, 3.0, (2, 3)) for _ in range(n)]
            try:
                whole = function(*map(mg.tensor, arrays), **keywords)
                single = [function(*(mg.tensor([[v]]) for v in each), **keywords)
                          for each in zip(*(array.flat for array in arrays), strict=True)]  # fmt: skip
            except (TypeError, ValueError, IndexError, RuntimeError):
                continue
            results = [whole, *single]
            if any(type(result) is not mg.Tensor or result.dtype.kind != "f" for result in results):
                continue
            if [result.shape for result in results] != [(2, 3)] + 6 * [(1, 1)]:
                continue
            copied = any(np.array_equal(whole.data, array) for array in arrays)
            if not copied and np.array_equal(whole.data.ravel(), [float(result) for result in single]):
                return True
    return False


def held():
    """The functions that have a row."""
    names = [name for function in functions.FUNCTIONS for name in function.of or (function.name,)]
    return {getattr(mg.functional, name) for name in names if hasattr(mg.functional, name)}


def test_every_elementwise_function_has_a_row_or_a_reason():
    found = {name for name in mg.functional.__all__ if is_elementwise(getattr(mg.functional, name))}
    assert len(found) > 50 and {"exp", "pow", "max", "gelu", "mse_loss", "round", "divide"} <= found
    assert not {"softmax", "argsort", "flip", "clone", "tril", "isnan", "where", "cumsum"} & found
    rows = held()
    missing = {name for name in found if getattr(mg.functional, name) not in rows}
    assert missing - functions.NOT_HELD.keys() == set()


def test_every_operation_with_kernels_has_a_row_or_a_reason():
    names = {"softmax_cross_entropy": "cross_entropy"}
    rows = {function.name.split(",")[0] for function in functions.FUNCTIONS if function.kernels}
    assert {names.get(op, op) for op in kernels.OPS} - rows <= functions.NOT_HELD.keys()


def test_what_has_no_row_is_there_and_has_none():
    for name, reason in functions.NOT_HELD.items():
        assert len(reason) > 10 and (name in kernels.OPS or hasattr(mg.functional, name))
        assert name not in NAMES and getattr(mg.functional, name, None) not in held()
    for path in re.findall(r"tests/\S+\.py", " ".join(functions.NOT_HELD.values())):
        assert (ROOT / path).is_file(), path


def test_every_function_is_held_in_every_dtype_on_every_backend():
    for function in functions.FUNCTIONS:
        found = {(name, backend) for name, form in formats.FORMATS.items()
                 for backend in table._backends(function, form, True)}  # fmt: skip
        dtypes = {"float16", "float32", "float64"}
        if function.kernels is None:
            assert found == {(name, "numpy") for name in dtypes}
            continue
        on_cpu = {(name, backend) for name in function.kernels.on_cpu for backend in ("reference", "cpu")}
        assert found == on_cpu | {(name, "cuda-sim") for name in dtypes | {"bfloat16"}}


def test_an_exponential_of_few_digits_inside_of_a_kernel_is_found(monkeypatch):
    """A seeded bug: parity of the kernels, whose tolerance is absolute, would not see it."""
    plain = kernels.backend("reference")
    right = plain.softmax_cross_entropy_backward
    monkeypatch.setattr(plain, "softmax_cross_entropy_backward", lambda *args: right(*args) * (1 + 8 * 2.0**-24))
    assert any("cross_entropy, float32, reference, backward" in line for line in problems(300, "cross_entropy"))


# ------------------------------------------------------------------------------------------------ the measure

FLOAT32 = formats.FORMATS["float32"]


def test_the_mixed_error_is_the_smallest_change_of_argument_and_result():
    """x**3 at 2: a result 8 units off is 8 / (1 + 3) units off in the mixed sense, since x**3 triples an error of x."""
    x, y = np.float32([2.0]), np.array([8.0 * (1 + 8 * FLOAT32.unit)])
    worst = measure.mixed_error(FLOAT32, x, y, [mpmath.mpf(8)], [mpmath.mpf(24)])
    assert worst.error == pytest.approx(2.0)
    changed = (2 * (1 + Fraction(2) * Fraction(FLOAT32.unit))) ** 3 * (1 + Fraction(2) * Fraction(FLOAT32.unit))
    assert float(changed) == pytest.approx(y[0], rel=1e-12)


def test_infinities_and_subnormal_numbers_are_right_where_the_exact_result_rounds_to_them():
    def error(computed, exact):
        return measure.ulp_error(FLOAT32, [1.0], [computed], [mpmath.mpf(exact)]).error

    assert error(np.inf, "3.5e38") == 0
    assert error(np.inf, FLOAT32.largest) == pytest.approx(0.5)  # as the number halfway to the next power of two
    assert error(-np.inf, "3.5e38") > 1e7 and error(np.inf, 1) > 1e38 and error(np.nan, 1) == np.inf
    assert error(FLOAT32.largest, "1e39") > 1e6
    assert error(2 * FLOAT32.smallest, FLOAT32.smallest) == 0
    assert error(2 * FLOAT32.smallest, FLOAT32.smallest * (1 - 2.0**-40)) == 0
    assert error(3 * FLOAT32.smallest, FLOAT32.smallest) > 1


@pytest.mark.parametrize("name", formats.FORMATS)
def test_formats_are_what_numpy_says_and_points_cover_them(name):
    form = formats.FORMATS[name]
    if name != "bfloat16":
        info = np.finfo(name)
        assert (form.largest, form.smallest, form.smallest_normal) == (info.max, info.smallest_subnormal, info.tiny)
        assert form.unit == info.eps / 2
    x = formats.points(form, (0.5,), functions.EVERYWHERE, 400, np.random.default_rng(0)).astype(np.float64)
    assert 300 <= len(x) <= 420 and {form.largest, -form.largest, form.smallest, 0.0} <= set(x)
    assert (np.abs(x[x != 0]) < form.smallest_normal).sum() >= 2 and (np.abs(x - 0.5) < 0.1).any()


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_prints_the_table_and_its_exemptions(capsys):
    assert command.main(["--function", "sigmoid", "--points", "200", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(table.HEADING + "\n" + table.COLUMNS) and out.count("\nsigmoid ") == 3
    assert "exceptions:" not in out


def test_an_exception_stands_below_the_table_with_its_reason(capsys):
    assert command.main(["--function", "selu", "--points", "200", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^selu .* \*$", out, re.M)) == 3
    assert "\n* exceptions:\n  selu (backward, float64 and float32 and float16), up to 2 steps between subnormal" in out
    assert functions._ROUNDED_FIRST in out


def test_an_error_over_its_bound_is_marked_and_makes_the_status_1(monkeypatch, capsys):
    monkeypatch.setattr(elementwise, "exp_backward", lambda dout, out: 1.0001 * dout * out)
    assert command.main(["--function", "exp", "--points", "200", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert len(re.findall(r"^exp .* !$", out, re.M)) == 2 and "\n! exp, float64, numpy, backward: " in out


def test_help_needs_no_mpmath_and_explains_the_command(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as leaving:
        command.main(["--help"])
    assert leaving.value.code == 0 and "against mpmath" in " ".join(capsys.readouterr().out.split())


def test_the_command_says_in_one_line_that_mpmath_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as leaving:
        command.main([])
    assert leaving.value.code == 2
    err = capsys.readouterr().err
    assert "mpmath, of the extra dev, is not installed" in err and "pip install mpmath" in err and err.count("\n") == 1
