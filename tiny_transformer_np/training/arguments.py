"""The command line of train.py: a flag for every setting, and hints for the names that other trainers have."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from kernels.system import cli
from kernels.system.files import given
from tiny_transformer_np.config import DERIVED, TOKENIZERS, ConfigError, TrainingConfig, TransformerConfig
from tiny_transformer_np.other_names import as_flag, name_here, names_here

if TYPE_CHECKING:
    from kernels.system.files import StrPath

Settings: TypeAlias = dict[str, Any]  # {field of a config: value}

PROG = cli.program("train.py")
DESCRIPTION = """Train a transformer language model: [--config FILE.toml] [--data FILE...] [--n-layer 4 ...]

The same as `python -m tiny_transformer_np.training`, and as `minigrad-train` where the package is installed.
"""
EPILOG = """examples:
  {0}                                     the default: the Python manual, under two minutes
  {0} --data book.txt --max-steps 5000    your own text
  {0} --data texts/ --tokenizer bpe --vocab-size 4096     a folder of texts, in word pieces
  {0} --config configs/shakespeare_char.toml --data input.txt
  {0} --resume runs/default-20260101-120000
  {0} --step-backward --break-on blocks.1.attn    walk through one step's backward; writes nothing
"""


def command() -> str:
    """The command that started this process, without its arguments."""
    return cli.command("tiny_transformer_np.training", "minigrad-train", "train.py")


def absolute(path: StrPath) -> str:
    """A path of the command line as an absolute one; /dev/stdin and the like become the file behind them."""
    named = given(path).absolute()
    file = os.path.realpath(named)
    return str(given(file if named.is_relative_to("/dev") and os.path.isfile(file) else named))


def absolute_paths(settings: Settings) -> Settings:
    """Paths of data and of a tokenizer as absolute ones, so that a run can be resumed from any directory."""
    paths: Settings = {k: tuple(map(absolute, settings.get(k, ()))) for k in ("data", "val_data")}
    if "-" in (*settings.get("data", ()), *settings.get("val_data", ())):
        prepare = cli.command("tiny_transformer_np.training.prepare", "minigrad-prepare")
        raise ConfigError(
            f"a run needs data that it finds again: `{prepare} - --out DIR` reads standard input into DIR"
        )
    if (tokenizer := settings.get("tokenizer", TOKENIZERS[0])) not in TOKENIZERS:
        paths["tokenizer"] = absolute(tokenizer)
    return {**settings, **{k: v for k, v in paths.items() if v}}


def parse_arguments() -> argparse.Namespace:
    """Namespace with config, resume, out_dir, and the settings that were given, as dicts `model` and `training`."""
    parser = cli.Parser(
        prog=PROG,
        hint=hint,
        description=DESCRIPTION,
        epilog=EPILOG.format(command()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--config", type=cli.path, metavar="FILE", help="settings, a file or a shipped one's name; flags override them"
    )
    run.add_argument(
        "--out-dir", type=cli.path, metavar="DIR", help="folder of the run (default: runs/CONFIG-DATE-TIME)"
    )
    run.add_argument("--resume", type=cli.path, metavar="RUN", help="run folder, or a checkpoint in one, to go on with")
    run.add_argument(
        "--post-mortem", type=cli.path, metavar="FILE", help="stop where the step after this saved state went bad"
    )
    run.add_argument("--step-backward", action="store_true", help="walk through one step's backward, node by node")
    run.add_argument("--break-on", metavar="WHAT", help="module, operation or id where --step-backward stops first")
    run.add_argument("--at-step", metavar="N", type=int, help="the step to walk through (default: the next one)")
    run.add_argument("--preflight", action="store_true", help="make all checks of a new run, train nothing, and stop")
    run.add_argument("--no-preflight", action="store_true", help="begin a new run without its checks")
    run.add_argument("--no-memory-check", action="store_true", help="begin even if the memory will not do, it seems")
    add_flags(parser.add_argument_group("model"), TransformerConfig, skip=DERIVED)
    add_flags(parser.add_argument_group("training"), TrainingConfig)
    args = parser.parse_args()
    for section, config in (("model", TransformerConfig), ("training", TrainingConfig)):
        names = [f.name for f in dataclasses.fields(config)]
        skipped = DERIVED if section == "model" else ()
        settings = {name: getattr(args, name) for name in names if hasattr(args, name) and name not in skipped}
        setattr(args, section, {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    if args.step_backward:  # the reference kernels, whatever the config says: they can be stepped into
        args.stepped_kernels = args.training.pop("kernels", "reference")
    elif args.break_on is not None or args.at_step is not None:
        parser.error("--break-on and --at-step go with --step-backward")
    args.no_steps = bool(args.resume) and args.training.get("max_steps") == 0  # in a new run that means: by epochs
    if args.no_steps:
        del args.training["max_steps"]
    return args


def add_flags(
    group: argparse._ArgumentGroup, config: type[TransformerConfig | TrainingConfig], skip: Sequence[str] = ()
) -> None:
    """A flag for every field of a config dataclass; one that is not given leaves no trace."""
    for field in dataclasses.fields(config):
        if field.name in skip:
            continue
        options = {"help": field.metadata["help"], "default": argparse.SUPPRESS}
        if field.type is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif field.type in (int, float, str):
            options |= {"type": field.type, "choices": field.metadata["choices"]}
            options["metavar"] = None if field.metadata["choices"] else {int: "N", float: "X", str: "NAME"}[field.type]
        else:
            options |= {"nargs": "+", "metavar": "FILE"} if field.type == tuple[str, ...] else {
                "nargs": 2, "type": float, "metavar": "X"}  # fmt: skip
        group.add_argument(*map(as_flag, (field.name, *field.metadata["aliases"])), dest=field.name, **options)


def hint(unknown: Sequence[str]) -> str:
    """What a message says of arguments that no flag takes: a text without --data, or another trainer's names."""
    flags = [arg.partition("=")[0] for arg in unknown[1:] if arg.startswith("--")]
    return _first_hint(unknown) + names_here(flags)


def _first_hint(unknown: Sequence[str]) -> str:
    first = unknown[0]
    if first.startswith("-"):
        return name_here(first.lstrip("-").partition("=")[0], as_flag)
    if first.lower() in ("true", "false"):
        return "; a switch takes no value: write --bias or --no-bias"
    if first.endswith(".toml"):
        return f"; settings are given as --config {shlex.quote(first)}"
    if first.endswith(".py"):
        return "; settings are read from TOML files: --config FILE.toml"
    if os.path.isfile(os.path.join(first, "config.toml")):
        return f"; a run is gone on with by --resume {shlex.quote(first)}"
    if os.path.exists(first):
        files = [arg for arg in unknown if os.path.exists(arg)]
        return f"; data are given as --data {shlex.join(files)}"
    return "; data are given as --data FILE, settings as --name VALUE"
