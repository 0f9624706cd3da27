"""Preparing text and batches of it, beside `datasets` with `tokenizers`: python benchmarks/data.py [--megabytes 200]

Both sides read one JSON Lines file, tokenize it with one byte-level BPE of 8,192 ids and write as many ids, on one core
and on all. Then both give batches of windows in shuffled order, in one thread and with two workers (for datasets those
of PyTorch's DataLoader). The last table is of the training step of the case small on corpora of three sizes: its time,
how much of it the step waits for its batch, and the anonymous resident memory. The sides alternate, so that other load
on the machine affects all; figures are medians, and ratios medians of those of a round.
"""

import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks import machine, step_cases, zipf_text
from benchmarks.processes import Child, timed
from kernels.system import cli

MB = 1_000_000
VOCAB_SIZE = 8192
WORKERS = (0, 2)
BATCHES = {"small": (12, 64), "long": (8, 1024)}  # (B, T)
LIBRARIES = {"tokenize": ("datasets", "tokenizers"), 0: ("datasets",), 2: ("datasets", "torch")}  # of the other side
TRAINED_ON = 20 * MB  # bytes of text for the tokenizer


def installed(*names):
    """Whether these libraries can be imported."""
    return all(importlib.util.find_spec(name) for name in names)


# ------------------------------------------------------------------------------------------ prepare


def prepare(text, tokenizer, out, processes):
    """The command that prepares the text, as a person types it."""
    return [sys.executable, "-m", "tiny_transformer_np.training.prepare", text, "--tokenizer", tokenizer,
            "--processes", processes, "--out", out]  # fmt: skip


def tokenize(text, tokenizer, out, processes):
    """The command that does the same with datasets and tokenizers."""
    return [sys.executable, "-m", "benchmarks.data_worker", "tokenize", "--text", text, "--tokenizer", tokenizer,
            "--processes", processes, "--out", out]  # fmt: skip


def compare_preparing(text, tokenizer, folder, processes, rounds):
    """Rows of the first table, one for each of `processes`. The results stay in folder/shards and folder/datasets."""
    sides = {"shards": prepare} | ({"datasets": tokenize} if installed(*LIBRARIES["tokenize"]) else {})
    found = {(side, n): [] for n in processes for side in sides}  # (seconds, bytes) of each round
    for _ in range(rounds):
        for side, n in found:
            shutil.rmtree(folder / side, ignore_errors=True)
            (folder / side).mkdir()
            command = list(map(str, sides[side](text, tokenizer, folder / side, n)))
            found[side, n].append(timed(command, n, folder / "log"))
    tokens = n_tokens(folder / "shards")
    rows = []
    for n in processes:
        seconds = {side: [each[0] for each in found[side, n]] for side in sides}
        memory = {side: max(each[1] for each in found[side, n]) for side in sides}
        rows.append({"what": f"prepare, {n} process" + "es" * (n > 1), "tokens": tokens, "bytes": memory}
                    | rates(tokens, seconds))  # fmt: skip
    return rows


def rates(tokens, seconds):
    """{"rates": tokens per second of each side, "ratio": shards to datasets or None}; seconds: of each round."""
    medians = {side: statistics.median(each) for side, each in seconds.items()}
    pairs = zip(seconds["shards"], seconds.get("datasets", ()), strict=False)
    ratios = [theirs / ours for ours, theirs in pairs]
    return {
        "rates": {side: tokens / each for side, each in medians.items()},
        "ratio": statistics.median(ratios) if ratios else None,
    }


def n_tokens(corpus):
    """The tokens of all splits of a corpus."""
    index = json.loads((corpus / "index.json").read_text())
    return sum(shard["tokens"] for split in index["splits"].values() for shard in split)


# ------------------------------------------------------------------------------------------ batches


def compare_batches(folder, name, rounds, seconds_a_turn):
    """Rows of the second table for the batches `name`: one for each number of workers."""
    batch_size, seq_len = BATCHES[name]
    if there := installed(*LIBRARIES[0]):
        command = [sys.executable, "-m", "benchmarks.data_worker", "windows", "--data", folder / "datasets", "--out",
                   folder / "datasets", "--seq-len", seq_len]  # fmt: skip
        timed(list(map(str, command)), 1, folder / "log")
        ids = int((folder / "log").read_text(errors="replace").partition(" ids")[0].split()[-1])
        if ids != n_tokens(folder / "shards"):
            raise ValueError(f"datasets made {ids} ids, and prepare {n_tokens(folder / 'shards')}")
    rows = []
    for workers in WORKERS:
        sides = ["shards"] + ["datasets"] * (there and installed(*LIBRARIES[workers]))
        children = {
            side: Child("benchmarks.data_worker", "batches", "--side", side, "--data", folder / side, "--workers",
                        workers, "--batch-size", batch_size, "--seq-len", seq_len)
            for side in sides
        }  # fmt: skip
        found = alternate(children, rounds, seconds_a_turn)
        seconds = {side: [each["seconds"] / each["n"] for each in found[side]] for side in sides}
        what = f"batches of {batch_size} x {seq_len}, {workers} workers"
        rows.append({"what": what, "bytes": {}} | rates(batch_size * seq_len, seconds))
    return rows


def alternate(children, rounds, seconds_a_turn):
    """Ask each child for about `seconds_a_turn` of work in every round -> {name: its answers, each with "n"}."""
    n = {}
    for name, child in children.items():
        child.ask(2)
        answer = child.ask(10)
        n[name] = max(10, round(10 * seconds_a_turn / answer["seconds"]))
    answers = {name: [] for name in children}
    for _ in range(rounds):
        for name, child in children.items():
            answers[name].append({"n": n[name]} | child.ask(n[name]))
    for child in children.values():
        child.close()
    return answers


# ------------------------------------------------------------------------------------------ steps


def random_corpus(folder, n_bytes, vocab_size):
    """A corpus of random ids, in one shard of n_bytes; it validates on its last tenth."""
    from tiny_transformer_np.corpus.shards import EncodedPiece, write_index, write_shard
    from tiny_transformer_np.tokenizers import IdTokenizer

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sizes = [min(MB, n_bytes - start) // 2 for start in range(0, n_bytes, MB)]
    pieces = (EncodedPiece(rng.integers(0, vocab_size, size, np.uint16), size, True) for size in sizes)
    write_index(folder, IdTokenizer(vocab_size), np.uint16, [write_shard(folder, "train-00000", pieces, np.uint16)])
    return folder


def repeated(corpus, folder, times):
    """A corpus whose training shards are those of `corpus`, repeated `times` times as hard links."""
    from tiny_transformer_np import tokenizers
    from tiny_transformer_np.corpus.shards import write_index

    folder.mkdir(parents=True)
    index = json.loads((corpus / "index.json").read_text())
    tokenizer = tokenizers.from_json(json.loads((corpus / "tokenizer.json").read_text()))
    entries = {"train": [], "val": []}
    for split, count in (("train", times), ("val", 1)):
        for shard in index["splits"][split] * count:
            name = f"{split}-{len(entries[split]):05}"
            linked = {"file": f"{name}.bin", "borders": f"{name}.borders"}
            for key, link in linked.items():
                os.link(corpus / shard[key], folder / link)
            entries[split].append(shard | linked)
    write_index(folder, tokenizer, index["dtype"], entries["train"], entries["val"], index["separator"])
    return folder


def compare_steps(folder, sizes, rounds, seconds_a_turn):
    """Rows of the third table: steps of the case small on corpora of 1 MB and of `sizes` bytes."""
    vocab_size = step_cases.configs("small")[0].vocab_size
    shard = random_corpus(folder / "shard", min(16 * MB, *sizes), vocab_size)
    corpora = {MB: random_corpus(folder / "1", MB, vocab_size)}
    for size in sizes:
        corpora[size] = repeated(shard, folder / str(size), -(-size // (shard / "train-00000.bin").stat().st_size))
    children = {
        (size, workers): Child("benchmarks.data_worker", "steps", "--data", corpus, "--workers", workers)
        for size, corpus in corpora.items() for workers in WORKERS
    }  # fmt: skip
    answers = alternate(children, rounds, seconds_a_turn)
    rows = []
    for (size, workers), found in answers.items():
        first = answers[MB, workers]
        pairs = [here["median"] / there["median"] for here, there in zip(found, first, strict=True)]
        rows.append({
            "size": size, "workers": workers, "seconds": statistics.median(each["median"] for each in found),
            "ratio": statistics.median(pairs), "waited": statistics.median(each["waited"] for each in found),
            "over": statistics.median(each["over"] for each in found),
            "anonymous": max(each["anonymous"] for each in found),
            "added": max(each["anonymous"] for each in found) - max(each["anonymous"] for each in first),
        })  # fmt: skip
    return rows


# ------------------------------------------------------------------------------------------ tables

HEAD = f"{'':34}{'tokens/s':>12}{'datasets':>12}{'ratio':>7}{'MB':>7}{'datasets':>10}"
STEPS_HEAD = f"{'a step of small, corpus of':34}{'ms':>8}{'ratio':>7}{'waited':>8}{'over 1 %':>10}{'MB':>7}{'added':>7}"


def line(row):
    """A row of the first two tables. MB: the most that all processes together had resident; "-": not compared here."""

    def number(value, form):
        return "-" if value is None else format(value, form)

    speeds = "".join(f"{number(row['rates'].get(side), ',.0f'):>12}" for side in ("shards", "datasets"))
    memory = [row["bytes"].get(side) for side in ("shards", "datasets")]
    ours, theirs = (number(each and each / MB, ".0f") for each in memory)
    return f"{row['what']:<34}{speeds}{number(row['ratio'], '.2f'):>7}{ours:>7}{theirs:>10}"


def steps_line(row):
    """A row of the third. MB: anonymous resident memory; added: beyond that on 1 MB; waited: a share of the
    time; over 1 %: the share of steps in which it was more than that."""
    what = f"{row['size'] / MB:,.0f} MB, {row['workers']} workers"
    return (f"{what:<34}{1e3 * row['seconds']:8.2f}{row['ratio']:7.3f}{row['waited']:8.2%}{row['over']:10.1%}"
            f"{row['anonymous'] / MB:7.0f}{row['added'] / MB:7.1f}")  # fmt: skip


def measure(folder, n_bytes, large, processes, rounds, seconds_a_turn, batches, show):
    """All three tables; `show` gets each line. -> rows. large: bytes of the largest corpus; batches: of BATCHES."""
    from tiny_transformer_np import tokenizers

    text = zipf_text.write_jsonl(folder / "text.jsonl", n_bytes)
    trained = tokenizers.train("bpe", zipf_text.documents(min(n_bytes, TRAINED_ON)), VOCAB_SIZE)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(json.dumps(trained.to_json()), encoding="utf-8")
    show(HEAD)
    rows = []
    for row in compare_preparing(text, tokenizer, folder, processes, rounds):
        rows.append(row)
        show(line(row))
    for name in batches:
        for row in compare_batches(folder, name, rounds, seconds_a_turn):
            rows.append(row)
            show(line(row))
    show(STEPS_HEAD)
    for row in compare_steps(folder / "steps", sorted({n_bytes, large}), 3 * rounds, seconds_a_turn / 2):
        rows.append(row)
        show(steps_line(row))
    return rows


@cli.command_line("data.py")
def main():
    cores = len(os.sched_getaffinity(0))
    parser = cli.Parser(prog="data.py", description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=200, help="of text (default: 200)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; each side has one turn in each")
    parser.add_argument("--quick", action="store_true", help="1 MB, one round, short turns: to see that it works")
    parser.add_argument("--folder", type=Path, help="where the files are made, 5 GB of them (default: a temporary one)")
    parser.add_argument("--out-dir", type=Path, help="write data.json and .md there too")
    args = parser.parse_args()
    if args.megabytes < 1 or args.rounds < 1:
        parser.error(f"--megabytes {args.megabytes} and --rounds {args.rounds}: expected at least 1")
    settings = (args.megabytes * MB, 3000 * MB, sorted({1, cores}), args.rounds, 2.0, BATCHES)
    if args.quick:
        settings = (MB, 2 * MB, [1], 1, 0.05, ["small"])
    lines = []

    def show(text):
        lines.append(text)
        print(text, flush=True)

    about = machine.describe(cores)
    print(machine.sentence(about))
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        rows = measure(Path(folder), *settings, show)
    if args.out_dir:
        machine.write(args.out_dir / "data", about, lines, rows)


if __name__ == "__main__":
    sys.exit(main())
