"""Make a corpus of token ids from files of text, for train.py --data DIR.

PATH: a file, a folder, a pattern such as 'texts/*.md', or - for standard input. Files end with .txt, .md (a document
each), .jsonl or .parquet (a document a line or row, of which --field is the text), and .gz or .zst behind that. A
command that was interrupted or killed goes on when it is given again.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from typing import TYPE_CHECKING

from kernels.system import cli
from kernels.system.signals import asking_to_stop
from tiny_transformer_np.config import BPE_VOCAB_SIZE, TOKENIZERS
from tiny_transformer_np.training.progress import ByteProgress, clock

if TYPE_CHECKING:  # imported where they are used: --help is answered at once
    from tiny_transformer_np.corpus.prepare import Request, Summary

PROG = cli.program("python -m tiny_transformer_np.training.prepare")
EPILOG = """examples:
  {0} books/ --out corpus
  {0} train.jsonl.gz --val-data val.jsonl --vocab-size 32768 --out corpus
  {0} input.txt --tokenizer char --out corpus
  zcat texts.gz | {0} - --tokenizer corpus/tokenizer.json --out more
"""


@cli.command_line(PROG)
def main() -> int:
    """Prepare as the arguments of this process say. Returns the exit status."""
    request, args = parse_arguments()
    from tiny_transformer_np.corpus.prepare import prepare
    from tiny_transformer_np.corpus.workers import WorkerError

    # SIGTERM and SIGHUP raise, as Ctrl-C does, so that worker processes and files that are not complete go
    with asking_to_stop(lambda number: sys.exit(128 + number), ("SIGTERM", "SIGHUP")):
        started = time.perf_counter()
        try:
            summary = prepare(request, args.out, args.processes, ByteProgress())
        except KeyboardInterrupt:
            cli.fail(PROG, "interrupted; the same command goes on", 128 + signal.SIGINT)
        except WorkerError as error:
            cli.fail(PROG, f"{error}; the same command goes on", 1)
        except (OSError, MemoryError) as error:
            error.add_note("the same command goes on")
            raise
    print(describe(summary, time.perf_counter() - started))
    return 0


def parse_arguments() -> tuple[Request, argparse.Namespace]:
    """(what is asked for, the Namespace with out and processes)."""
    command = cli.command("tiny_transformer_np.training.prepare", "minigrad-prepare")
    parser = cli.Parser(
        prog=PROG, description=__doc__, epilog=EPILOG.format(command),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("data", nargs="+", type=_path, metavar="PATH", help="text to train on")
    parser.add_argument("--out", required=True, type=cli.path, metavar="DIR", help="folder of the corpus")
    parser.add_argument(
        "--val-data", nargs="+", type=_path, default=[], metavar="PATH",
        help="text to validate on (default: train.py takes the last tenth of the tokens)",
    )  # fmt: skip
    parser.add_argument(
        "--tokenizer", default="bpe", type=_tokenizer, metavar="char|byte|bpe|FILE",
        help="characters, bytes, or word pieces that are learned from the text; or a tokenizer.json, or a folder with "
        "GPT-2's vocab.json and merges.txt (default: bpe)",
    )  # fmt: skip
    parser.add_argument(
        "--vocab-size", type=int, metavar="N", help=f"tokens of a bpe that is learned (default: {BPE_VOCAB_SIZE})"
    )
    parser.add_argument("--field", default="text", help="that has the text in .jsonl and .parquet (default: text)")
    parser.add_argument("--processes", type=int, default=0, metavar="N", help="0: one a core, at most 8 (default: 0)")
    args = parser.parse_args()
    if args.processes < 0:
        parser.error(f"--processes is {args.processes}; expected 0 or more")
    if args.vocab_size is not None and args.tokenizer != "bpe":
        parser.error(f"--vocab-size is for --tokenizer bpe; {args.tokenizer} has a size of its own")
    if args.vocab_size is not None and args.vocab_size < 257:
        parser.error(f"--vocab-size is {args.vocab_size}; expected 257 or more: 256 bytes and the end of a document")
    from tiny_transformer_np.corpus.plan import Request

    return Request(tuple(args.data), tuple(args.val_data), args.tokenizer, args.vocab_size or 0, args.field), args


def _path(text: str) -> str:
    return text if text == "-" else cli.path(text)


def _tokenizer(text: str) -> str:
    return text if text in TOKENIZERS[1:] else cli.path(text)


def describe(summary: Summary, seconds: float) -> str:
    """What the corpus has, and the command that trains on it."""
    lines = [f"{summary.folder} was complete already: the same data and arguments"] if summary.earlier else []
    for split, (documents, tokens, n_bytes) in summary.splits.items():
        if tokens:
            lines.append(
                f"{split:6}    {documents:,} document{'s' * (documents != 1)}, {tokens:,} tokens, "
                f"{n_bytes / tokens:.2f} bytes a token"
            )
    lines.append(f"corpus    {summary.folder}, vocabulary {summary.vocab_size:,}")
    if not summary.earlier:
        n_bytes = sum(split[2] for split in summary.splits.values())
        lines.append(f"time      {clock(seconds)}, {n_bytes / 1e6 / seconds:.1f} MB of text a second")
    train = cli.command("tiny_transformer_np.training", "minigrad-train", "train.py")
    return "\n".join([*lines, "train on it with:", f"    {train} --data {shlex.quote(str(summary.folder))}"])


if __name__ == "__main__":
    sys.exit(main())
