"""A pytest plugin for the user's own operations: the fixture `gradcheck`, and failures that show the explanation.

    def test_my_op(gradcheck):
        gradcheck(my_op, {"x": np.random.default_rng(0).standard_normal((3, 5))})

pytest finds it once minigrad is installed; without that, `pytest -p minigrad.pytest_plugin`.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from minigrad.gradient_checking import GradcheckReport


@pytest.fixture(name="gradcheck")
def gradcheck_fixture() -> "Callable[..., GradcheckReport]":
    """`minigrad.gradcheck`; a failure points to the line of the test."""
    from minigrad.gradient_checking import GradcheckError, gradcheck  # imported only if a test uses it

    def check(fn: Any, inputs: Any, **settings: Any) -> "GradcheckReport":
        __tracebackhide__ = True  # pytest then shows the line that called
        try:
            return gradcheck(fn, inputs, **settings)
        except GradcheckError as error:
            raise error.with_traceback(None) from None  # without the checker's frames

    return check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add a section to the report: input, index, both values, tolerance, noise and likely cause."""
    report = yield
    error: Any = call.excinfo.value if call.excinfo else None
    if report.when == "call" and type(error).__name__ == "GradcheckError" and error.cause is not None:
        facts = {
            "input": error.input, "index": error.index, "analytic": error.analytic, "numeric": error.numeric,
            "tolerance": error.tolerance, "noise": error.noise, "likely cause": error.cause,
        }  # fmt: skip
        lines = [f"{name:<13} {value}" for name, value in facts.items() if value is not None]
        report.sections.append(("gradient check", "\n".join(lines)))
    return report
