"""break_on stops where it should and nowhere else, and costs nothing when unused."""

import sys
import warnings
from pathlib import Path

import pytest
from small_net import Net, gradients, loss_of, same_bits

import minigrad as mg
from benchmarks import debugging_overhead
from minigrad import graph
from minigrad.debug import Step, breakpoints


@pytest.fixture(autouse=True)
def nothing_stays_switched_on():
    yield
    assert graph.observer is None and not breakpoints._breakpoints


@pytest.fixture
def stops(monkeypatch):
    """What a debugger would find at each stop: the local variables."""
    seen = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: seen.append(dict(sys._getframe(1).f_locals)))
    return seen


def test_it_stops_before_or_after_the_backward_function_with_its_arrays(stops):
    net = Net()
    with mg.break_on(op="layernorm", module="blocks.1"):
        loss_of(net).backward()
    with mg.break_on(op="layernorm_backward", module="blocks.1", before=False):
        loss_of(net).backward()
    before, after = stops
    for stop in stops:
        assert isinstance(stop["step"], Step) and stop["node"].op == "layernorm" and stop["step"].module == "blocks.1"
    assert before["grads"] is None and before["step"].grads == {} and before["dout"].shape == (5, 6)
    assert list(after["step"].grads) == ["dx", "dweight", "dbias"] and len(after["grads"]) == 3


def test_a_path_matches_itself_and_what_is_below_it(stops):
    with mg.break_on(module="blocks"):
        loss_of(Net()).backward()
    assert [s["step"].module for s in stops] == ["blocks.1", "blocks.0"]
    with mg.break_on(module="block"), pytest.warns(RuntimeWarning, match=r"module='block'.*did you mean 'blocks"):
        loss_of(Net()).backward()
    assert len(stops) == 2


def test_when_chooses_by_the_step(stops):
    with mg.break_on(op="layernorm", when=lambda step: step.stats["dout"].norm > 1e9):
        loss_of(Net()).backward()
    assert stops == []
    with mg.break_on(when=lambda step: "dbias" in step.grads and step.module == "blocks.0", before=False):
        loss_of(Net()).backward()
    assert [s["step"].module for s in stops] == ["blocks.0"]


def test_several_at_once_and_remove(stops):
    gelus, norms = mg.break_on(op="gelu"), mg.break_on(op="layernorm")
    with mg.break_on(op="gelu"):  # two that stop at the same place stop once
        loss_of(Net()).backward()
    assert [s["step"].op for s in stops] == ["gelu", "layernorm"] * 2
    gelus.remove()
    gelus.remove()
    loss_of(Net()).backward()
    assert [s["step"].op for s in stops[4:]] == ["layernorm"] * 2
    norms.remove()
    loss_of(Net()).backward()
    assert len(stops) == 6


def test_it_warns_of_what_matches_nothing_at_the_start_of_the_pass_and_once(stops):
    net = Net()
    with mg.break_on(op="layrnorm"):
        with pytest.warns(RuntimeWarning, match=r"op='layrnorm'.*no node.*its ops are add, gelu.*did you mean 'layern"):
            loss_of(net).backward()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loss_of(net).backward()
    with mg.break_on(op="gelu", module="blocks.1"), pytest.warns(RuntimeWarning, match="op='gelu', module='blocks.1'"):
        loss_of(net).backward()  # each exists, but not together
    assert stops == []


def test_stopping_changes_no_bit_of_the_gradients(stops):
    stepped, plain = Net(), Net()
    loss_of(plain).backward()
    with mg.break_on():
        loss = loss_of(stepped)
        loss.backward()
    assert len(stops) == 10 and same_bits(gradients(stepped), gradients(plain))


# -------------------------------------------------------------------------------------------- costs


def python_calls(function):
    """How many calls, of Python and of C functions, it makes; and the files of the Python functions."""
    count, files = 0, set()

    def profile(frame, event, arg):
        nonlocal count
        if event == "call":
            files.add(frame.f_code.co_filename)
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count, files


def test_unused_it_costs_no_call():
    """Before it was ever used, after it, and as long as nothing is watched: the same calls, none of the debugger's."""
    net = Net()

    def step():
        loss_of(net).backward()

    step()  # loads the kernels
    unused, files = python_calls(step)
    assert not [file for file in files if Path(breakpoints.__file__).parent in Path(file).parents]
    with mg.break_on(when=lambda step: False):
        watched, files = python_calls(step)
    assert watched > unused + 20 and breakpoints.__file__ in files
    assert python_calls(step)[0] == unused


def test_the_benchmark_of_its_cost_counts_the_conditions_that_there_are():
    sources = "".join(Path(graph.__file__).with_name(name).read_text() for name in ("graph.py", "_tensor.py"))
    for condition in {**debugging_overhead.A_NODE, **debugging_overhead.A_LEAF}:
        assert f"if {condition}:" in sources, condition
