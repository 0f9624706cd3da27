"""One side of benchmarks/data.py in a process of its own.

python -m benchmarks.data_worker tokenize  --text FILE.jsonl --tokenizer FILE --out DIR --processes N
python -m benchmarks.data_worker windows   --data DIR --out DIR --seq-len T
python -m benchmarks.data_worker batches   --side shards|datasets --data DIR --workers N --batch-size B --seq-len T
python -m benchmarks.data_worker steps     --data DIR --workers N

The first two do with Hugging Face's `datasets` and `tokenizers` what `minigrad-prepare` does, and cut windows for
`batches`. The last two answer each number on standard input with a line of JSON: that many batches or steps were
taken in "seconds". Steps say too the "median" of a step, what share of the time they "waited" for batches, which
share of them waited "over" 1 %, and the "anonymous" resident memory.
"""

import dataclasses
import itertools
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks import processes, step_cases
from kernels.system import cli

END_OF_TEXT = "<|endoftext|>"


def tokenize(text, tokenizer, out, processes):
    """Load documents, tokenize them in `processes` processes and write the ids, as uint16, to a folder of datasets'."""
    import datasets
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(tokenizer))
    end = encoder.token_to_id(END_OF_TEXT)

    def ids(documents):
        encoded = encoder.encode_batch_fast(documents["text"], add_special_tokens=False)
        return {"ids": [np.array([*each.ids, end], np.uint16) for each in encoded]}

    documents = datasets.load_dataset("json", data_files=str(text), split="train", cache_dir=str(out / "cache"))
    documents.map(
        ids, batched=True, num_proc=processes if processes > 1 else None, remove_columns=documents.column_names,
        features=datasets.Features({"ids": datasets.List(datasets.Value("uint16"))}),
        cache_file_name=str(out / "tokens.arrow"),
    )  # fmt: skip


def windows(data, out, seq_len):
    """Cut the ids of `tokenize` into rows of seq_len + 1, as the scripts that train causal models with datasets do.

    It prints the number of ids.
    """
    import datasets

    def rows(batch):
        ids = np.concatenate(batch["ids"])
        n = len(ids) // (seq_len + 1)
        return {"row": list(ids[: n * (seq_len + 1)].reshape(n, seq_len + 1))}

    parts = [datasets.Dataset.from_file(str(path)) for path in sorted(data.glob("tokens*.arrow"))]
    tokens = datasets.concatenate_datasets(parts).with_format("numpy")
    print(sum(len(chunk.flatten()) for chunk in tokens.data.column("ids").chunks), "ids", flush=True)
    row = datasets.List(datasets.Value("uint16"), length=seq_len + 1)
    tokens.map(
        rows, batched=True, remove_columns=["ids"], features=datasets.Features({"row": row}),
        cache_file_name=str(out / f"windows-{seq_len}.arrow"),
    )  # fmt: skip


def batches_of_datasets(data, workers, batch_size, seq_len):
    """Endless (inputs, targets), both int64 (B, T), in shuffled order; with workers through PyTorch's DataLoader."""
    import datasets

    def split(rows):
        ids = np.asarray(rows, np.int64)
        return ids[:, :-1], ids[:, 1:]

    rows = datasets.Dataset.from_file(str(data / f"windows-{seq_len}.arrow"))
    for epoch in itertools.count():
        shuffled = rows.shuffle(seed=epoch).with_format("numpy")
        if workers:
            from torch.utils.data import DataLoader

            yield from DataLoader(
                shuffled, batch_size, num_workers=workers, drop_last=True,
                collate_fn=lambda found: split([each["row"] for each in found]),
            )  # fmt: skip
        else:
            yield from (split(found["row"]) for found in shuffled.iter(batch_size, drop_last_batch=True))


def batches_of_shards(data, workers, batch_size, seq_len):
    """The same of a folder that `prepare` wrote."""
    from tiny_transformer_np.corpus.shards import open_corpus
    from tiny_transformer_np.training import TextDataset
    from tiny_transformer_np.training.loader import Loader

    corpus = open_corpus(data)
    loader = Loader(TextDataset(corpus.train, corpus.tokenizer, seq_len), batch_size, 0, workers)
    for number in itertools.count():
        yield loader.batch(number).batch


def answer_batches(side, data, workers, batch_size, seq_len):
    """Take as many batches as each line of standard input says, and answer with the seconds."""
    source = {"shards": batches_of_shards, "datasets": batches_of_datasets}[side](data, workers, batch_size, seq_len)
    for line in sys.stdin:
        started = time.perf_counter()
        for inputs, targets in itertools.islice(source, int(line)):
            assert inputs.shape == targets.shape == (batch_size, seq_len) and inputs.dtype == np.int64
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


def answer_steps(data, workers):
    """Take as many steps of the case small as each line says; answer with seconds, the share waited and the memory."""
    trainer = trainer_on_corpus(data, workers)
    fetch, waited = trainer.loader.batch, 0.0

    def timed_fetch(number):
        nonlocal waited
        started = time.perf_counter()
        loaded = fetch(number)
        waited += time.perf_counter() - started
        return loaded

    trainer.loader.batch = timed_fetch
    for line in sys.stdin:
        waited, seconds, shares = 0.0, [], []
        for _ in range(int(line)):
            before, started = waited, time.perf_counter()
            trainer.train_step()
            seconds.append(time.perf_counter() - started)
            shares.append((waited - before) / seconds[-1])
        answer = {
            "seconds": sum(seconds), "median": statistics.median(seconds), "waited": waited / sum(seconds),
            "over": float(np.mean(np.array(shares) > 0.01)), "anonymous": processes.anonymous(),
        }  # fmt: skip
        print(json.dumps(answer), flush=True)


def trainer_on_corpus(data, workers):
    """A Trainer of the case small on this corpus."""
    from minigrad import random, runtime
    from tiny_transformer_np.corpus.shards import open_corpus
    from tiny_transformer_np.model import TransformerLM
    from tiny_transformer_np.training import TextDataset, Trainer

    runtime.configure()
    random.seek(0)
    model, training = step_cases.configs("small")
    training = dataclasses.replace(training, num_workers=workers)
    corpus = open_corpus(data)
    dataset = TextDataset(corpus.train, corpus.tokenizer, training.seq_len, training.stride)
    return Trainer(TransformerLM(model), dataset, None, training)


@cli.command_line("data_worker.py")
def main():
    parser = cli.Parser(prog="data_worker.py", description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=("tokenize", "windows", "batches", "steps"))
    parser.add_argument("--side", choices=("shards", "datasets"), default="shards")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--seq-len", type=int, default=64)
    args = parser.parse_args()
    if args.task == "tokenize":
        tokenize(args.text, args.tokenizer, args.out, args.processes)
    elif args.task == "windows":
        windows(args.data, args.out, args.seq_len)
    elif args.task == "batches":
        answer_batches(args.side, args.data, args.workers, args.batch_size, args.seq_len)
    else:
        answer_steps(args.data, args.workers)


if __name__ == "__main__":
    main()
