"""How much memory a run needs, from its settings alone, and how much there is.

The estimate is a sum of arrays whose sizes are known. The sizes of the Python process and of temporary arrays are
measured constants. `python benchmarks/memory_estimate.py` compares them with real runs. The data are mapped files,
whose pages the system takes back when it needs memory: they do not count.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels import matmul_precision
from kernels.system.files import StrPath
from tiny_transformer_np.config import ConfigError, TrainingConfig, TransformerConfig
from tiny_transformer_np.model import LARGE_VOCABULARY
from tiny_transformer_np.training.loader import batches_ahead
from tiny_transformer_np.training.preflight import LARGE
from tiny_transformer_np.training.trainer import EVAL_TOKENS

WARN = 0.8  # the share of the available memory above which a run warns
ADDRESSABLE = 1 << 47  # bytes: more than any process can have
_MB, _UNITS = 1 << 20, ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
_PROGRAM = {"fast": 200 * _MB, "reference": 85 * _MB}  # Python, its libraries, the compiled kernels, a picture drawn
_COMPILER = 105 * _MB  # Numba
_LAYER = 32 << 10  # Python objects of a layer and of its graph
_CHUNK_ROWS = 512  # of logits that exist at once where the vocabulary is large
# temporary arrays (tokens, n_embd), besides those saved for backward; the reference GELU computes in float64
_STEP, _EVALUATION = {"fast": 13, "reference": 56}, {"fast": 12, "reference": 40}
_PREFLIGHT, _SHORT_PREFLIGHT = 46, 8  # bytes a parameter: copies in float64, and gradients
_ON_HOST = ("program", "batches", "first weights", "resuming", "saving")  # also for a GPU
_ON_GPU = ("weights", "gradients", "moments", "step", "evaluation", "preflight")
_SCORES = 5  # arrays (B, H, T, T) that the reference kernels' attention makes


@dataclass(frozen=True)
class Estimate:
    """Bytes by kind. held: for the whole run; passing: temporary, and only one of them at a time."""

    held: dict
    passing: dict

    @property
    def total(self) -> int:
        return sum(self.held.values()) + max(self.passing.values(), default=0)

    def part(self, names: Sequence[str]) -> "Estimate":
        """The Estimate of these kinds only."""
        return Estimate(*({k: v for k, v in kinds.items() if k in names} for kinds in (self.held, self.passing)))

    def largest(self) -> str:
        """The kind that needs most."""
        kinds = self.held | self.passing
        return max(kinds, key=kinds.__getitem__)


def num_parameters(config: TransformerConfig) -> int:
    """The number of parameters of a TransformerLM of this TransformerConfig, without making one."""
    C, biases = config.n_embd, 1 if config.bias else 0
    layer = 12 * C * C + 2 * C + biases * 11 * C
    positions = config.block_size if config.positions == "learned" else 0
    tables = config.vocab_size * (1 if config.tie_weights else 2) + positions
    return config.n_layer * layer + (1 + biases) * C + tables * C


def of_run(
    model: TransformerConfig,
    config: TrainingConfig,
    n_tokens: tuple[int, int],
    preflight: str = "none",
    resumed: bool = False,
) -> Estimate:
    """The Estimate of a training run.

    model: TransformerConfig; config: TrainingConfig; n_tokens: to train on and to validate; preflight: "whole", "usual"
    or "none"; resumed: whether it begins from a checkpoint.
    """
    P, T, n_micro = num_parameters(model), config.seq_len, config.grad_accumulation_steps
    rounded = matmul_precision.rounds(np.dtype(np.float32))
    rows = min(max(1, EVAL_TOKENS // T), -(-n_tokens[1] // T))
    held = {
        "program": _PROGRAM[config.kernels]
        + (_COMPILER if rounded and config.kernels == "reference" else 0)
        + _LAYER * model.n_layer,
        "weights": 4 * P,
        "gradients": 4 * P,
        "moments": 8 * P,
        "batches": 2 * 8 * (n_micro + batches_ahead(config.num_workers, n_micro)) * config.batch_size * T,
    }
    passing = {
        "first weights": 4 * P,
        "resuming": 16 * P if resumed else 0,  # the checkpoint's three arrays a parameter, and the first weights
        "step": _step(model, config, 2 if rounded else 4),
        "evaluation": _forward(model, config, rows),
        "saving": 8 * P,
        "preflight": (_PREFLIGHT if preflight == "whole" or P <= LARGE else _SHORT_PREFLIGHT) * P,
    }
    if preflight == "none":
        del passing["preflight"]
    return Estimate(held, passing)


def _step(model: TransformerConfig, config: TrainingConfig, kept: int) -> int:
    """Bytes of a micro-batch: arrays saved for backward, `kept` bytes a number, and temporary ones."""
    B, T, C = config.batch_size, config.seq_len, model.n_embd
    N = B * T
    # a layer saves both norms' inputs (2 C), queries, keys and values (3 C), attention's output (C), GELU's input (4 C)
    # and, always in float32, two numbers for each norm and one for each head
    layers = model.n_layer * (10 * C * kept + 4 * (4 + model.n_head)) * N
    return layers + 4 * _STEP[config.kernels] * N * C + _logits(model, N) + _scores(model, config, B)


def _forward(model: TransformerConfig, config: TrainingConfig, rows: int) -> int:
    """Bytes of a forward pass without a graph."""
    N = rows * config.seq_len
    return 4 * _EVALUATION[config.kernels] * N * model.n_embd + _logits(model, N) + _scores(model, config, rows)


def _logits(model: TransformerConfig, N: int) -> int:
    return 4 * model.vocab_size * (min(N, _CHUNK_ROWS) if model.vocab_size >= LARGE_VOCABULARY else N)


def _scores(model: TransformerConfig, config: TrainingConfig, B: int) -> int:
    return 4 * _SCORES * B * model.n_head * config.seq_len**2 if config.kernels == "reference" else 0


# ------------------------------------------------------------------------------------------- available memory


def available(root: StrPath = "/") -> tuple[int | None, str]:
    """(bytes, what limits them) that this process may use at most; (None, "") where the system does not say."""
    found = [*_machine(), *_cgroups(Path(root)), *_process(Path(root))]
    return min(found, default=(None, ""), key=lambda limit: limit[0])


def _machine() -> Iterator[tuple[int, str]]:
    try:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "this machine's memory"
    except (AttributeError, ValueError, OSError):  # not a Unix
        return


def _cgroups(root: Path) -> Iterator[tuple[int, str]]:
    """The limits of the control groups that this process is in, innermost first: versions 2 and 1 of Linux's."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        mounts = {"": ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory": ("sys/fs/cgroup/memory",)}
        for mount in mounts.get(controllers, ()):
            folder = Path(path.strip().strip("/"))
            for group in (folder, *folder.parents):  # a container may see its own group as the root
                for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
                    for limit in _lines(root / mount / group / name):
                        if limit.strip().isdigit():  # not "max"
                            yield int(limit), f"the limit of this process's control group ({name})"


def _process(root: Path) -> Iterator[tuple[int, str]]:
    """The limit of the address space (`ulimit -v`), less what is reserved and never touched."""
    try:
        import resource
    except ImportError:
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        pages = [int(number) for line in _lines(root / "proc/self/statm") for number in line.split()[:2]] or [0, 0]
        yield limit - (pages[0] - pages[1]) * resource.getpagesize(), "the limit of this process (ulimit -v)"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


# ------------------------------------------------------------------------------- the estimate against the memory

_ADVICE = {
    "batches": "lower batch_size, seq_len, grad_accumulation_steps or num_workers",
    "step": "lower batch_size, seq_len, n_layer or n_embd",
    "evaluation": "lower n_embd or seq_len",
    "preflight": "pass --no-preflight",
}


def require(estimate: Estimate, device: str = "cpu", check: bool = True) -> str | None:
    """ConfigError if the estimate is above the available memory. check=False: only if it is above ADDRESSABLE.

    Returns a warning, one line, if it is above WARN times the available memory; else None.
    """
    if estimate.total > ADDRESSABLE:
        raise ConfigError(f"the run needs {_share(estimate)}, more than any process can have; {_advice(estimate)}")
    found = None
    for part, size, where in _places(estimate, device) if check else ():
        if part.total > size:
            raise ConfigError(
                f"the run needs {_share(part)}, but {where} is {human(size)}; {_advice(part)}, "
                "or try all the same with --no-memory-check"
            )
        if part.total > WARN * size:
            found = f"the run needs {_share(part)}, and {where} is {human(size)}; {_advice(part)} if it fails"
    return found


def _places(estimate: Estimate, device: str) -> Iterator[tuple[Estimate, int, str]]:
    """(part of the estimate, available bytes, what limits them) for host and device memory, where that is known."""
    size, where = available()
    if device == "cuda":
        from kernels.cuda import gpu

        yield estimate.part(_ON_GPU), gpu.memory(), "the GPU's memory"
        estimate = estimate.part(_ON_HOST)
    if size is not None:
        yield estimate, size, where


def _share(estimate: Estimate) -> str:
    return f"{about(estimate.total)} of memory, most of it for the {estimate.largest()}"


def _advice(estimate: Estimate) -> str:
    return _ADVICE.get(estimate.largest(), "lower n_layer or n_embd")


def describe(estimate: Estimate) -> str:
    """`about 1.2 GB of 24 GB`."""
    size, _ = available()
    return about(estimate.total) + (f" of {human(size)}" if size else "")


def about(n: float) -> str:
    """Bytes as text, rounded as an estimate."""
    return "more than 1000 EB" if n >= 1e21 else f"about {human(n)}"


def human(n: float) -> str:
    """Bytes as text: 1.2 GB, in powers of 1000."""
    power = min(max(0, (len(str(int(n))) - 1) // 3), 6)
    n = n / 1000**power
    return f"{n:.0f} {_UNITS[power]}" if n >= 100 else f"{n:.3g} {_UNITS[power]}"
