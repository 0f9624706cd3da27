"""Tests of the checks: every seeded bug is caught, most causes are named, and right code raises no alarm."""

import functools
import importlib
import pkgutil
from collections import defaultdict

import numpy as np
import pytest
from seeded import CHECKS, Bug, caught_by, owner, planted
from seeded_backward_functions import BACKWARD_FUNCTIONS
from seeded_kernels import KERNELS
from table import BUGS, for_page, in_page, markdown

import kernels
from minigrad import gradcheck, ops
from minigrad.gradient_checking import table
from minigrad.opcases import CASES

caught = functools.cache(caught_by)


def test_every_backward_function_and_every_kernel_has_a_seeded_bug():
    functions = set()
    for module in (importlib.import_module(f"minigrad.ops.{each.name}") for each in pkgutil.iter_modules(ops.__path__)):
        own = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
        functions |= {f"{module.__name__}.{name}" for name in own if name.endswith("_backward") and name[0] != "_"}
    assert len(functions) > 40
    of_specs = {f"{getattr(ops, bug.op).__module__}.{bug.op}_backward" for bug in KERNELS if bug.op}  # their kernels
    assert functions <= {bug.where for bug in BACKWARD_FUNCTIONS} | of_specs
    every_kernel = {kernel for group in kernels.KERNELS.values() for kernel in group}
    assert every_kernel == {bug.kernel for bug in KERNELS} - {None}
    assert len(BUGS) >= 40


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.where.removeprefix('minigrad.ops.')}: {bug.name}")
def test_a_seeded_bug_is_caught(bug):
    assert caught(bug)


@pytest.mark.parametrize("check", CHECKS)
def test_no_check_objects_to_right_code(check):
    """A check that always failed would catch every seeded bug too."""
    for bug in BUGS:
        assert CHECKS[check](bug) is None, bug.name


@pytest.mark.parametrize("check", CHECKS)
def test_no_check_is_idle(check):
    assert any(check in caught(bug) for bug in BUGS)


def test_a_bug_is_gone_after_its_block():
    for bug in BUGS:
        before = _function(bug)
        with planted(bug):
            assert _function(bug) is not before
        assert _function(bug) is before


def _function(bug):
    return vars(owner(bug))[bug.where.rpartition(".")[2]]


def named_causes():
    """kind of error -> for each bug of that kind, whether the explanation named it."""
    kinds = defaultdict(list)
    for bug in BUGS:
        if bug.cause and "gradcheck" in caught(bug):
            kinds[bug.cause].append(caught(bug)["gradcheck"][1] == bug.cause)
    return kinds


def test_the_likely_cause_is_right_for_eight_kinds_of_error_in_ten():
    kinds = named_causes()
    right = [kind for kind, named in kinds.items() if sum(named) > len(named) / 2]
    assert len(kinds) >= 10
    assert len(right) >= 0.8 * len(kinds), {kind: f"{sum(named)}/{len(named)}" for kind, named in kinds.items()}
    total = [named for kind in kinds.values() for named in kind]
    assert sum(total) >= 0.8 * len(total)


def test_no_other_cause_is_named_than_the_one_that_is_there():
    """Where no pattern fits the explanation says so, which is better than a wrong cause."""
    for bug in BUGS:
        named = caught(bug).get("gradcheck", ("", None))[1]
        assert named is None or bug.cause in ("", named), (bug.name, named)


def test_the_kinds_a_user_is_told_of_are_all_named():
    kinds = named_causes()
    for kind in ("sign", "factor 2", "factor N", "transposed", "missing broadcast sum", "accumulated twice",
                 "overwritten", "mask forgotten", "scale forgotten", "right only for all-ones upstream"):  # fmt: skip
        assert any(kinds[kind]), kind


def test_the_table_has_a_row_for_each_bug():
    same = lambda right: lambda *a, **k: right(*a, **k)  # noqa: E731
    bug = Bug("nothing wrong", "minigrad.ops.elementwise.neg_backward", same, "neg")
    rows = markdown([bug, BUGS[0]])
    assert rows[2] == "| nothing wrong | `minigrad.ops.elementwise.neg_backward` | **missed** |  |"
    assert "| gradcheck | missing broadcast sum |" in rows[3]


def test_the_page_shows_the_table_as_it_is():
    assert in_page() == for_page(caught), "run python tests/seeded_bugs/table.py"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(i, i + 20) for i in range(0, 200, 20)], ids=lambda s: f"{s[0]}-{s[-1]}")
def test_right_code_raises_no_alarm_whatever_the_seed(seeds):
    for seed in seeds:
        for i, case in enumerate(CASES):
            exactly = (i + seed) % 10 == 0  # coordinate by coordinate, each case with 20 of the seeds
            for backend in kernels.SETS:
                with kernels.use(backend):
                    gradcheck(case.fn, case.arrays(seed), rtol=1e-8, step=3e-4, seed=seed,
                              max_coordinates=200 if exactly else 0, n_directions=2)  # fmt: skip
                    assert table.float32_error(case, seed) <= table.LIMITS["float32"], (case.op, seed, backend)


def test_all_sample_inputs_are_of_ordinary_size():
    for case in CASES:
        assert all(np.abs(a).max() < 5 for a in case.arrays() if a.dtype.kind == "f"), case.op
