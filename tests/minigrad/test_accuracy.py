"""Every elementwise function is as accurate as `minigrad.accuracy` says, over the whole range of each dtype."""

import importlib.util
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from minigrad.accuracy import __main__ as command
from minigrad.accuracy import formats, functions, measure, table
from minigrad.ops import activation, elementwise

NAMES = [function.name for function in functions.FUNCTIONS]
WITH_KERNELS = [function.name for function in functions.FUNCTIONS if function.kernel]


def problems(count, name, device=False, seed=0):
    return [problem for row in table.rows(count, name, device, seed) for problem in row.problems()]


@pytest.mark.parametrize("name", NAMES)
def test_no_result_is_off_by_more_than_four_units(name):
    assert problems(300, name) == []


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
            and exemption.steps <= 2
        )


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
    assert out.startswith(table.HEADING) and out.count("sigmoid") == 3 and functions.EXEMPTIONS[0].reason in out


def test_the_command_says_in_one_line_that_mpmath_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as leaving:
        command.main([])
    assert leaving.value.code == 2
    err = capsys.readouterr().err
    assert "mpmath is not installed" in err and "pip install mpmath" in err and err.count("\n") == 1
