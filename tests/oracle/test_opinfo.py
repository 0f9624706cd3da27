"""PyTorch's own samples, called in minigrad with the same arguments and keywords: values and gradients are PyTorch's.

A call may be refused, with a clear error of one line. None may end silently in another result. `python
tests/oracle/report.py` prints the table, operator by operator.
"""

import collections

import opinfo
import pytest
import thresholds
from operators import OPERATORS
from outcomes import AMBIGUOUS, DIFFERENT, EQUAL, MISSING, REFUSED, UNCLEAR, Outcome, of_error
from report import line, share

import minigrad as mg

pytestmark = pytest.mark.pytorch
A_FEW = 3  # samples of each entry of PyTorch's table, contiguous and not, in the quick test


@pytest.fixture(autouse=True, scope="module")
def one_thread_of_pytorch():
    """The samples are small: threads of PyTorch's own only take the cores from other processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def check(dtype, at_most, names, least_equal):
    """Fail unless that part of the calls is equal, and none is different, unclear or missing."""
    counts, bad = collections.Counter(), []
    for entry in opinfo.entries(names):
        for call, outcome in opinfo.outcomes_of(entry, dtype, at_most):
            counts[outcome.kind] += 1
            is_bad = outcome.kind in (DIFFERENT, UNCLEAR, MISSING)
            if is_bad and opinfo.title(entry) not in thresholds.UNFINISHED:
                bad.append(f"{outcome.kind}: {dtype} {call}\n    {outcome.detail}")
    print(line(dtype, counts))
    assert not bad, "\n".join(bad[:20])
    assert share(counts) >= least_equal, line(dtype, counts)


def test_a_few_of_pytorchs_samples_give_its_values_and_gradients():
    for dtype in opinfo.FLOATS:
        check(dtype, A_FEW, OPERATORS, thresholds.LEAST_EQUAL[dtype])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", opinfo.FLOATS)
def test_all_of_pytorchs_samples_give_its_values_and_gradients(dtype):
    check(dtype, None, OPERATORS, thresholds.LEAST_EQUAL[dtype])


def test_float16_works_in_elementwise_operators_and_elsewhere_ends_in_one_clear_line():
    elementwise = [name for name, operator in OPERATORS.items() if operator.elementwise]
    others = [name for name in OPERATORS if name not in elementwise]
    check("float16", A_FEW, elementwise, thresholds.LEAST_EQUAL["float16 elementwise"])
    check("float16", A_FEW, others, 0)


def test_every_name_that_minigrad_and_pytorchs_table_share_is_listed():
    assert opinfo.unlisted(opinfo.load_op_db()) == set()


def test_other_names_of_an_operator_give_the_same():
    """PyTorch's table names aliases: clip is clamp, swapaxes is transpose."""
    called = set()
    for entry in opinfo.entries():
        for alias in entry.aliases:
            name = alias.name.rpartition(".")[2]
            if hasattr(mg, name) and OPERATORS[entry.name].call is None:
                called.add(name)
                for sample in opinfo.samples(entry, "float64", 2):
                    outcome = opinfo.compare(entry, sample, "float64", name)
                    bad = outcome.kind not in (EQUAL, REFUSED, AMBIGUOUS)
                    assert not bad or opinfo.title(entry) in thresholds.UNFINISHED, (name, outcome)
    assert {"absolute", "concatenate", "layer_norm", "multiply", "negative", "swapaxes"} <= called


# ------------------------------------------------------------------------------------------ the check itself


RELU = mg.relu


def outcome_of_relu(monkeypatch, function):
    """The kinds of outcomes of PyTorch's samples of relu if minigrad's relu were that function."""
    monkeypatch.setattr(mg, "relu", function)
    (entry,) = opinfo.entries(["nn.functional.relu"])
    return {outcome.kind for _, outcome in opinfo.outcomes_of(entry, "float64")}


def refuse(message):
    raise ValueError(message)


@pytest.mark.parametrize(
    "function,kind",
    [
        (RELU, EQUAL),
        (lambda x: RELU(x) * (1 + 1e-8), DIFFERENT),
        (lambda x: RELU(x.no_such_name), UNCLEAR),  # an AttributeError
        (lambda x: mg.tensor(RELU(x).data), DIFFERENT),  # the gradient is lost
        (lambda x: RELU(x).astype("float32"), DIFFERENT),
        (lambda x: RELU(x).data, DIFFERENT),
        (lambda x: mg.reshape(RELU(x), -1), DIFFERENT),
        (lambda x: mg.record(RELU(x).data, (x,), lambda dout: dout), DIFFERENT),  # a wrong gradient
        (lambda x: refuse("relu: one\ntwo"), UNCLEAR),
        (lambda x: RELU(x, inplace=True), REFUSED),
    ],
)
def test_the_check_tells_a_silent_difference_from_a_clear_refusal(monkeypatch, function, kind):
    assert kind in outcome_of_relu(monkeypatch, function)


def test_an_error_from_the_depth_of_numpy_is_not_clear():
    import numpy as np

    with pytest.raises(TypeError) as caught:
        mg.Tensor(np.ones(3)).data.sum(axis="rows")
    assert of_error(caught.value).kind == UNCLEAR
    with pytest.raises(ValueError) as caught:
        mg.gelu(mg.tensor([1.0]), approximate="erf")
    assert of_error(caught.value) == Outcome(REFUSED, f"ValueError: {caught.value}")
