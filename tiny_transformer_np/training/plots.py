"""loss.png: how the run went, redrawn at each evaluation."""

import gc
import importlib.util
import itertools
import logging
import os
import sys
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np

from kernels.system.files import replacing

_STRETCHES = 2000  # of a curve: twice the picture's width in pixels


def draw_metrics(log, path):
    """Training and validation loss, learning rate and gradient norm over the steps of a MetricsLog.

    Matplotlib's settings on this machine change nothing in the picture, and cannot keep it from being drawn.
    """
    matplotlib = _matplotlib()  # not needed before the first evaluation, and slow to import
    defaults = {key: value for key, value in dict.items(matplotlib.rcParamsDefault) if key != "backend"}
    with matplotlib.rc_context(defaults):
        figure = _figure(log)
        with replacing(path) as partial:
            figure.canvas.print_figure(partial, format="png", dpi=110)
    # A figure's parts refer to each other, 7 MB of them. With the cyclic collector on they go at some later time, with
    # it off never; looking through everything takes 50 ms, a tenth of what drawing takes.
    del figure
    gc.collect()


def _matplotlib():
    """The library. Where settings keep it from being imported, a backend of Jupyter's perhaps, without them."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what it has to say about settings does not concern the picture
    try:
        try:
            import matplotlib.figure
        except Exception:
            with _no_settings():
                import matplotlib.figure
    finally:
        log.setLevel(level)
    return matplotlib


@contextmanager
def _no_settings():
    """Import matplotlib anew, with the settings file that it comes with and no backend, whatever a person has set."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]  # what the import that failed has left
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        with chdir(Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data"):  # looked at first
            yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _figure(log):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, evals = log.columns("train"), log.columns("eval")
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate, norm = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))

    loss.plot(*_curve(train, "loss"), color="tab:blue", alpha=0.35, linewidth=0.8, label="training, each step logged")
    train["smoothed"] = _smoothed(train["loss"])
    loss.plot(*_curve(train, "smoothed"), color="tab:blue", linewidth=1.6, label="training, smoothed")
    label = f"validation, {evals['val_loss'][-1]:.3f} at the end" if evals["step"].size else "validation"
    loss.plot(*_curve(evals, "val_loss"), color="tab:red", marker="o", markersize=4, label=label)
    loss.set_ylabel("loss (nats per token)")
    loss.legend(frameon=False)
    rate.plot(*_curve(train, "lr"), color="tab:green")
    rate.set_ylabel("learning rate")
    norm.plot(*_curve(train, "grad_norm"), color="tab:purple", linewidth=0.8)
    norm.set(ylabel="gradient norm", xlabel="step")
    if (train["grad_norm"] > 0.0).any():
        norm.set_yscale("log")
    for axes in (loss, rate, norm):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curve(columns, key):
    """(steps, values) to draw: all, or of each of 2,000 stretches the lowest and the highest, which looks the same."""
    steps, values = columns["step"], columns[key]
    length = len(values) // _STRETCHES
    if length < 2:
        return steps, values
    stretches = values[: _STRETCHES * length].reshape(_STRETCHES, length)
    both = np.stack([stretches.argmin(axis=1), stretches.argmax(axis=1)], axis=1)  # (S, 2)
    chosen = np.sort(both) + length * np.arange(_STRETCHES)[:, None]
    chosen = np.append(chosen, np.arange(_STRETCHES * length, len(values)))  # what is left is shorter than S
    return steps[chosen], values[chosen]


def _smoothed(values, keep=0.9):
    """Exponential moving average (N,), corrected for its start at zero."""
    averages = itertools.accumulate(
        memoryview(values), lambda average, x: keep * average + (1.0 - keep) * x, initial=0.0
    )
    return np.fromiter(averages, np.float64)[1:] / (1.0 - keep ** np.arange(1.0, len(values) + 1))
