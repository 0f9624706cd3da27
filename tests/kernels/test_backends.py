"""The contract of `kernels`: one name and one signature on every backend, and one switch between them."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parity import ALL_KERNELS

import kernels
from kernels import backend

cpu, reference = backend("cpu"), backend("reference")

X = np.zeros(3)


@pytest.fixture(autouse=True)
def leave_the_choice_as_it_was():
    with kernels.use("fast"):
        yield


def test_every_home_is_listed_and_complete():
    package = Path(kernels.__file__).parent
    assert sorted(path.parent.name for path in package.glob("*/reference.py")) == sorted(kernels.OPS)
    for op in kernels.OPS:
        there = {path.name for path in (package / op).iterdir()}
        assert there >= {"__init__.py", "spec.py", "reference.py", "cpu.py", "cuda.py"}, op


@pytest.mark.parametrize("op", kernels.OPS)
def test_the_reference_defines_exactly_the_kernels(op):
    """Other functions carry an underscore."""
    module = importlib.import_module(f"kernels.{op}.reference")
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    assert {name for name in own if not name.startswith("_")} == set(kernels.KERNELS[op])


def test_no_two_kernels_have_one_name():
    assert len(ALL_KERNELS) == len(set(ALL_KERNELS)) > 20


@pytest.mark.parametrize("name", ALL_KERNELS)
def test_signatures_are_equal(name):
    """Names, order, kinds, defaults and types, which every parameter has."""
    expected = inspect.signature(getattr(reference, name)).parameters
    assert inspect.signature(getattr(cpu, name)).parameters == expected
    assert inspect.signature(getattr(backend("cuda"), name)).parameters == expected
    assert all(parameter.annotation is not parameter.empty for parameter in expected.values())


@pytest.mark.parametrize("op", kernels.KERNELS)
def test_forward_and_backward_are_documented(op):
    for name in kernels.KERNELS[op]:
        assert inspect.getdoc(getattr(reference, name)) and inspect.getdoc(getattr(cpu, name))


def test_the_backend_follows_the_array():
    assert kernels.for_array(X) is cpu
    assert kernels.for_array(X) is cpu  # and again, now from the cache
    assert kernels.describe() == "fast"


@pytest.mark.parametrize("value", [[1.0], 1.0, None, np.float32(1.0), np.ma.zeros(3)], ids=lambda v: type(v).__name__)
def test_other_types_are_refused_by_name(value):
    with pytest.raises(TypeError, match=rf"no kernels for arrays of type {type(value).__name__}; expected a NumPy"):
        kernels.for_array(value)


def test_use_switches_all_kernels_and_back():
    with kernels.use("reference"):
        assert kernels.for_array(X) is reference
        assert kernels.describe() == "reference"
    assert kernels.for_array(X) is cpu


@pytest.mark.parametrize("op", kernels.KERNELS)
def test_use_switches_one_op_and_leaves_the_others(op):
    with kernels.use("reference", ops=[op]):
        chosen = kernels.for_array(X)
        for other, names in kernels.KERNELS.items():
            for name in names:
                assert getattr(chosen, name) is getattr(reference if other == op else cpu, name)
        assert kernels.describe() == f"fast ({op}: reference)"


def test_describe_names_every_op_that_is_not_fast():
    with kernels.use("reference", ops=["attention", "gelu"]):
        assert kernels.describe() == "fast (gelu, attention: reference)"
    with kernels.use("reference", ops=kernels.KERNELS):
        assert kernels.describe() == "reference"


def test_use_nests():
    with kernels.use("reference"), kernels.use("fast", ops=["gelu"]):
        assert kernels.for_array(X).gelu_forward is cpu.gelu_forward
        assert kernels.for_array(X).linear_forward is reference.linear_forward
        with kernels.use("reference", ops=["gelu"]):
            assert kernels.for_array(X) is reference
        assert kernels.for_array(X).gelu_forward is cpu.gelu_forward
    assert kernels.for_array(X) is cpu


def test_use_puts_the_choice_back_after_an_exception():
    with pytest.raises(ZeroDivisionError), kernels.use("reference"):
        raise ZeroDivisionError
    assert kernels.for_array(X) is cpu and kernels.describe() == "fast"


def test_select_stays():
    kernels.select("reference", ops=["dropout"])
    assert kernels.for_array(X).dropout_forward is reference.dropout_forward
    kernels.select("reference")
    assert kernels.for_array(X) is reference
    kernels.select("fast")
    assert kernels.for_array(X) is cpu


def enter(*args):
    with kernels.use(*args):
        pass


@pytest.mark.parametrize("switch", [kernels.select, enter])
def test_unknown_names_are_refused_and_nothing_changes(switch):
    with pytest.raises(ValueError, match="no kernel set named 'quick'; the sets are fast, reference"):
        switch("quick")
    with pytest.raises(ValueError, match="no kernels for convolution; there are linear, "):
        switch("reference", ["gelu", "convolution"])
    assert kernels.describe() == "fast" and kernels.for_array(X) is cpu


def test_importing_kernels_does_not_start_the_compiler():
    code = "import sys, kernels; kernels.backend('reference'); sys.exit(bool({'numba', 'cupy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(kernels.__file__).parents[1]).returncode == 0
