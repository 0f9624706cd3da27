"""What pyproject.toml cannot say: the packages are those found, and two folders that go into the wheel as packages."""

from setuptools import find_packages, setup

NAMES = ("cudagates", "cudasim", "kernels", "minigrad", "tiny_transformer_np")
FOUND = find_packages(include=[pattern for name in NAMES for pattern in (name, f"{name}.*")])
setup(packages=[*FOUND, "minigrad.debug.pages", "tiny_transformer_np.configs"])
