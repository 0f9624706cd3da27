"""loss.png: how the run went, redrawn at each evaluation."""

from kernels.system.files import replacing


def draw_metrics(rows, path):
    """Training and validation loss, learning rate and gradient norm over the steps. rows: of metrics.jsonl."""
    from matplotlib.figure import Figure  # not needed before the first evaluation, and slow to import

    train = [row for row in rows if row["kind"] == "train"]
    evals = [row for row in rows if row["kind"] == "eval"]
    figure = Figure(figsize=(9, 7), layout="constrained")
    loss, rate, norm = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))

    loss.plot(*_curve(train, "loss"), color="tab:blue", alpha=0.35, linewidth=0.8, label="training, each step logged")
    loss.plot(*_smoothed(train, "loss"), color="tab:blue", linewidth=1.6, label="training, smoothed")
    label = f"validation, {evals[-1]['val_loss']:.3f} at the end" if evals else "validation"
    loss.plot(*_curve(evals, "val_loss"), color="tab:red", marker="o", markersize=4, label=label)
    loss.set_ylabel("loss (nats per token)")
    loss.legend(frameon=False)
    rate.plot(*_curve(train, "lr"), color="tab:green")
    rate.set_ylabel("learning rate")
    norm.plot(*_curve(train, "grad_norm"), color="tab:purple", linewidth=0.8)
    norm.set(ylabel="gradient norm", xlabel="step")
    if any(row["grad_norm"] > 0.0 for row in train):
        norm.set_yscale("log")
    for axes in (loss, rate, norm):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _curve(rows, key):
    return [row["step"] for row in rows], [row[key] for row in rows]


def _smoothed(rows, key, keep=0.9):
    """Exponential moving average, corrected for its start at zero."""
    steps, values, average, weight = [], [], 0.0, 0.0
    for row in rows:
        average, weight = keep * average + (1.0 - keep) * row[key], keep * weight + (1.0 - keep)
        steps.append(row["step"])
        values.append(average / weight)
    return steps, values
