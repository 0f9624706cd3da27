"""Loss and optimizer kernels under the checker: no fault on ragged shapes, few bytes moved, seeded faults found."""

import shutil

import numpy as np
import pytest
from cuda_parity import device, misaligned, normal

from cudasim import array as sim
from cudasim.module import SimError
from kernels import backend
from kernels.cuda import simulated
from kernels.cuda.launch import SOURCES
from kernels.linear.cuda import sum_columns
from kernels.linear_cross_entropy import cuda as linear_cross_entropy
from kernels.softmax_cross_entropy.cuda import softmax_cross_entropy_in_place

pytestmark = pytest.mark.compiler

F32, F16 = np.dtype(np.float32), np.dtype(np.float16)
IGNORE = -100
cuda = backend("cuda")


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    monkeypatch.setattr(simulated, "mode", "check")


def one_head(dtype, N, K, V):
    rng = np.random.default_rng(1)
    x, weight, targets = normal(rng, dtype, N, K), normal(rng, dtype, V, K), rng.integers(0, V, N)
    targets[::5] = IGNORE
    return device((x, weight, targets))


def loss_and_gradients(x, weight, targets):
    """Every kernel of the loss once, fused and one by one."""
    loss, dx, dweight = cuda.linear_cross_entropy_forward(x, weight, targets, IGNORE, "mean", 2.0, True)
    cuda.linear_cross_entropy_backward(loss, dx, dweight, 2.0)
    logits = cuda.linear_forward(x, weight, weight[:, 0])
    forward = cuda.softmax_cross_entropy_forward(logits, targets, IGNORE, "mean")
    dlogits = cuda.softmax_cross_entropy_backward(loss, logits, targets, *forward[1:], IGNORE, True)
    cuda.linear_backward(dlogits, x, weight, weight[:, 0])


def update(n, half, place=device):
    """Every kernel of the optimizer once: float32 parameters with gradients and copies in `half`."""
    rng = np.random.default_rng(2)
    param, m, v = (place(np.abs(normal(rng, F32, n))) for _ in range(3))
    grad, low = place(normal(rng, half, n)), None if half == F32 else place(np.zeros(n, half))
    norm = cuda.global_norm([grad])
    flag = cuda.scale_and_check([grad], 0.5)
    segments = device((np.array([n // 3, n // 3, n]), np.ones(3, F32)))
    step = device(np.asarray(0))
    cuda.fused_adamw_step(param, grad, m, v, low, step, *segments, 0.1, 0.9, 0.99, 1e-8, norm, 1.0)
    if low is not None:
        wide = cuda.cast(grad, F32)
        cuda.fused_adamw_step(param, wide, m, v, low, step, *segments, 0.1, 0.9, 0.99, 1e-8, norm, 1.0)
        cuda.cast(wide, half)
    cuda.adamw_step(m, param, v, m.copy(), 1, 0.1, 0.9, 0.99, 1e-8, 0.1, 1.0)
    return flag


@pytest.mark.parametrize("dtype", [F32, F16], ids=str)
def test_no_fault_in_the_loss(dtype, monkeypatch):
    monkeypatch.setattr(linear_cross_entropy, "CHUNK_ROWS", 3)
    for N, K, V in [(1, 1, 1), (5, 31, 33), (7, 3, 127), (4, 8, 1031)]:
        loss_and_gradients(*one_head(dtype, N, K, V))


@pytest.mark.parametrize("half", [F32, F16], ids=str)
@pytest.mark.parametrize("place", [device, misaligned])
def test_no_fault_in_the_update(half, place):
    for n in (1, 31, 33, 129, 4099):
        update(n, half, place)


def traffic(call):
    """Bytes of global memory that the kernels of one call move, in sectors of 32."""
    load, used = simulated.load, []

    def remembered(*how):
        used.append(load(*how))
        return used[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated, "load", remembered)
        call()  # learns which files it needs
        for each in used:
            each.reset_counters()
        call()
    rows = [row for each in set(used) for row in each.counters() if row.space == "global"]
    return 32 * sum(row.sectors for row in rows)


@pytest.mark.parametrize(
    ("grad", "low", "bytes_each"), [(F32, None, 28), (F32, F16, 30), (F16, F16, 28)], ids=["plain", "copy", "half"]
)
def test_adamw_moves_the_least(grad, low, bytes_each):
    """Reads parameter, gradient and moments, writes parameter, moments and copy; each once."""
    n = 20480
    arrays = [device(np.ones(n, t)) for t in (F32, grad, F32, F32)] + [low and device(np.zeros(n, low))]
    segments = device((np.array([1000, 9001, n]), np.zeros(3, F32)))
    step, norm = device((np.asarray(0), np.asarray(1.0)))
    moved = traffic(lambda: cuda.fused_adamw_step(*arrays, step, *segments, 0.1, 0.9, 0.99, 1e-8, norm, 1.0))
    assert 1.0 <= moved / (n * bytes_each) <= 1.005
    if low is None:
        moved = traffic(lambda: cuda.adamw_step(*arrays[:4], 1, 0.1, 0.9, 0.99, 1e-8, 0.1, 1.0))
        assert moved == n * bytes_each


@pytest.mark.parametrize("V", [8192, 16411, 50257])
@pytest.mark.parametrize("dtype", [F32, F16], ids=str)
def test_cross_entropy_moves_little(dtype, V):
    """Forward reads the logits; backward reads them and writes over them; both at once read again what is not kept."""
    N, itemsize = 3, dtype.itemsize
    logits, targets = device((np.zeros((N, V), dtype), np.arange(N)))
    dout, losses = device(np.ones((), F32)), sim.empty((N,), np.float64)
    _, *saved = cuda.softmax_cross_entropy_forward(logits, targets, IGNORE, "mean")
    row = N * V * itemsize
    forward = traffic(lambda: cuda.softmax_cross_entropy_forward(logits, targets, IGNORE, "mean"))
    assert 1.0 <= forward / row <= 1.02
    backward = traffic(lambda: cuda.softmax_cross_entropy_backward(dout, logits, targets, *saved, IGNORE, True))
    assert 1.0 <= backward / (2 * row) <= 1.07
    both = traffic(lambda: softmax_cross_entropy_in_place(losses, logits, targets, saved[1], IGNORE, 1.0))
    assert 1.0 <= both / (2 * row) <= (1.04 if row <= N * 32768 else 1.5)  # 32 KiB stay in registers


def test_the_others_move_little():
    x = device(np.ones((512, 1024), F32))
    for call, least, allowed in [
        (lambda: cuda.global_norm([x]), x.nbytes, 1.002),
        (lambda: cuda.scale_and_check([x], 0.5), 2 * x.nbytes, 1.002),
        (lambda: cuda.cast(x, F16), 1.5 * x.nbytes, 1.0),
        (lambda: sum_columns(x), x.nbytes, 1.04),
        (lambda: cuda.linear_forward(x, x, x[0, :512]), x.nbytes, 1.07),  # bias: out is half of x
    ]:
        assert 1.0 <= traffic(call) / least <= allowed


@pytest.mark.parametrize(
    ("file", "line", "without"),
    [
        ("softmax_cross_entropy.cu", "  __syncthreads();  // the target's logit is read before", "  // read before"),
        ("softmax_cross_entropy.cu", "(V - begin) / VEC * VEC", "(V - begin + VEC - 1) / VEC * VEC"),
        ("softmax_cross_entropy.cu", "(32 - (unsigned long long)row % 32) % 32", "0"),
        ("linear.cu", "  __syncthreads();\n", ""),
        ("linear.cu", "accum sums[BLOCK_DIM_Y]", "accum sums[BLOCK_DIM_Y - 1]"),
        ("fused_adamw.cu", "  __syncthreads();\n", ""),
        ("fused_adamw.cu", "(m + i, first_moment, left)", "(m + i, first_moment, ACCUM_VEC)"),
        ("scale_and_check.cu", "load_part<VEC>(x + i, n - i)", "load_part<VEC>(x + i, n - i + 1)"),
        ("global_norm.cu", "load_part<VEC>(x + i, stop - i)", "load_part<VEC>(x + i, stop - i + 1)"),
        ("cast.cu", "store_part<N>(out + i, to, left)", "store_part<N>(out + i, to, left + 1)"),
    ],
    ids=["target read late", "tail", "alignment", "barrier of sums", "too little shared memory", "barrier of rates",
         "moment's tail", "tail of a load", "last element", "tail of a cast"],
)  # fmt: skip
def test_a_seeded_fault_is_caught(monkeypatch, tmp_path, file, line, without):
    """So the checker does look at these kernels."""
    for source in SOURCES.glob("*/*.cu*"):
        shutil.copy(source, tmp_path)
    text = (tmp_path / file).read_text()
    assert line in text
    (tmp_path / file).write_text(text.replace(line, without))
    load = simulated.load
    monkeypatch.setattr(simulated, "load", lambda path, *how: load(tmp_path / path.name, *how))
    monkeypatch.setattr(linear_cross_entropy, "CHUNK_ROWS", 7)
    with pytest.raises(SimError, match=file.removesuffix(".cu")):
        if file in ("softmax_cross_entropy.cu", "linear.cu"):
            loss_and_gradients(*one_head(F32, 19, 5, 1031))
        else:
            update(4099, F16)
