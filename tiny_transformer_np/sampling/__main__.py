"""python -m tiny_transformer_np.sampling RUN --prompt TEXT"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

import kernels
from kernels.arrays import Array
from kernels.system import cli
from kernels.system.printable import brief, shown
from minigrad import random
from minigrad.recording import no_grad
from minigrad.runtime import configure
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.other_names import SAMPLING_NAMES, as_flag, name_here
from tiny_transformer_np.sampling.generator import generate
from tiny_transformer_np.tokenizers import Tokenizer
from tiny_transformer_np.training import checkpoint
from tiny_transformer_np.training.run_folder import newest_checkpoint

PROG = cli.program("python -m tiny_transformer_np.sampling")


def arguments() -> argparse.Namespace:
    parser = cli.Parser(
        prog=PROG,
        literal=("--prompt",),
        hint=hint,
        description="Generate text from a trained run.",
        epilog="On a terminal control characters are shown as escapes; a file or a pipe gets the text itself.",
    )
    parser.add_argument("run", type=cli.path, help="run folder (its best checkpoint is used) or a checkpoint file")
    parser.add_argument(
        "--prompt", metavar="TEXT",
        help="text to go on from, or ids where the tokenizer is not known (default: a line break, if it knows that)",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, default=500, help="how many tokens to generate (default: 500)")
    parser.add_argument("--temperature", type=float, default=0.8, help="below 1 bolder, above 1 wilder (default: 0.8)")
    parser.add_argument("--top-k", type=int, help="choose among the k likeliest tokens only")
    parser.add_argument("--top-p", type=float, help="choose among the likeliest tokens that make up this share")
    parser.add_argument("--greedy", action="store_true", help="always take the likeliest token")
    parser.add_argument("--seed", type=int, default=1337, help="the same seed gives the same text (default: 1337)")
    parser.add_argument("--kernels", choices=kernels.SETS, default="fast", help="compiled, or plain NumPy")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one a core")
    args = parser.parse_args()
    if args.tokens < 0 or args.threads < 0 or args.seed < 0 or not args.temperature >= 0.0:
        parser.error("--tokens, --threads, --seed and --temperature must not be negative")
    if args.seed >= 1 << 64:
        parser.error(f"--seed is {brief(args.seed)}; expected less than 2**64")
    if args.top_k is not None and args.top_k < 1:
        parser.error(f"--top-k is {args.top_k}; expected 1 or more")
    if args.top_p is not None and not 0.0 < args.top_p <= 1.0:
        parser.error(f"--top-p is {args.top_p}; expected more than 0 and at most 1")
    return args


def hint(unknown: Sequence[str]) -> str:
    """What a message says of arguments that no flag takes: another program's name, or a prompt without --prompt."""
    first = unknown[0]
    if first.startswith("-"):
        return name_here(first.lstrip("-").partition("=")[0], as_flag, SAMPLING_NAMES)
    return "; a text to go on from is given as --prompt TEXT"


@no_grad()
def one_token(model: TransformerLM) -> None:
    """Call every kernel that generation needs, once."""
    model.eval()
    model(np.zeros((1, 1), np.int64), last_only=True)


def encoded(tokenizer: Tokenizer, prompt: str) -> Array:
    """The ids (n,) of --prompt, n >= 1. ConfigError for a text that has none."""
    try:
        ids = tokenizer.encode(prompt)
    except ValueError as error:
        raise ConfigError(f"--prompt: {error}") from None
    if not len(ids):
        raise ConfigError("--prompt is empty; give at least one character")
    return ids


def default_prompt(tokenizer: Tokenizer) -> Array:
    """The ids (n,) of a line break, else of a space, else the first id alone."""
    for text in "\n ":
        with suppress(ValueError):
            if len(ids := tokenizer.encode(text)):
                return ids
    return np.zeros(1, np.int64)


@cli.command_line(PROG)
def main() -> None:
    args = arguments()
    kernels.select(args.kernels)
    configure(threads=args.threads)
    path = newest_checkpoint(args.run)
    model, tokenizer, _ = checkpoint.load_model(path, check_logits=False)
    prompt = default_prompt(tokenizer) if args.prompt is None else encoded(tokenizer, args.prompt)
    kernels.prepare(lambda: one_token(model))
    checkpoint.require_finite_logits(path, model)
    random.seek(args.seed)
    temperature = 0.0 if args.greedy else args.temperature
    stream = tokenizer.stream()
    sys.stdout.write(shown("".join(map(stream.feed, prompt.tolist())), sys.stdout))
    for token in generate(model, prompt, args.tokens, random.generator(), temperature, args.top_k, args.top_p):
        sys.stdout.write(shown(stream.feed(token), sys.stdout))
        sys.stdout.flush()
    sys.stdout.write("\n")  # without stream.end(): half a character, where the last token is one, is not shown


if __name__ == "__main__":
    sys.exit(main())
