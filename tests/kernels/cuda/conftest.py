"""The errors that a test measured, noted beside its result: `make gpu-report` reads them there."""

import cuda_parity
import pytest


@pytest.fixture(autouse=True)
def measured_errors(record_property):
    cuda_parity.ERRORS.clear()
    yield
    for (kernel, dtype), found in cuda_parity.ERRORS.items():
        record_property(f"error {kernel} {dtype}", found)
