"""A folder of token ids from files of text, made by several processes, and gone on with after a kill.

    DIR/plan.json       what was asked for, and what the files were like; first
        tokenizer.json  complete when it appears
        train-00000.bin train-00000.borders train-00000.json ...   a shard for each unit of text, see corpus/shards.py
        index.json      last: DIR is a corpus now

What a shard contains follows from its unit and the tokenizer alone, so all these files but plan.json are the same for
any number of processes and after any number of kills. One process at a time works on a folder.
"""

import contextlib
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from kernels.cpu import threads
from kernels.system import cache, files, locks, streams
from kernels.system.files import StrPath
from kernels.system.printable import one_line
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus import shards, workers
from tiny_transformer_np.corpus.decoding import STANDARD_INPUT
from tiny_transformer_np.corpus.documents import Unit, find_sources, save_standard_input, units
from tiny_transformer_np.corpus.encoding import (
    id_type,
    learned_units,
    loaded,
    make_tokenizer,
    require_text,
    separator_of,
)
from tiny_transformer_np.corpus.plan import PLAN, Plan, Request, Stamp, stamp
from tiny_transformer_np.corpus.progress import Checking, Progress, Reading, Silent
from tiny_transformer_np.corpus.shards import INDEX, SPLITS, TOKENIZER, Entry, write_tokenizer
from tiny_transformer_np.corpus.workers import Task
from tiny_transformer_np.tokenizers import Tokenizer

Place: TypeAlias = tuple[str, int]  # of a unit and its shard: a split, and a number in it
Splits: TypeAlias = list[list[Unit]]  # units to train on, units to validate

STDIN, LOCK = ".standard-input", ".prepare.lock"  # the first is a folder
MOST_PROCESSES = 8  # unless more are asked for: each takes about 100 MB
#: the names that are written here, a regular expression; nothing else in a folder is touched
_WRITTEN = r"plan\.json|index\.json|tokenizer\.json|(?:train|val)-\d{5,}\.(?:bin|borders|json)"


@dataclass(frozen=True)
class Summary:
    """What a corpus has. earlier: it was complete before; splits: of each its documents, tokens and bytes of text."""

    folder: Path
    vocab_size: int
    splits: dict[str, tuple[int, int, int]]
    earlier: bool


def prepare(request: Request, folder: StrPath, processes: int = 0, progress: Progress | None = None) -> Summary:
    """Make `folder` a corpus as `request` says, or go on where an earlier call with the same request was ended.

    processes: 0: one a core, at most MOST_PROCESSES. Raises ConfigError, and leaves nothing behind, for data or
    arguments that cannot be used; for a folder with other things in it, which stay. After an OSError, a WorkerError or
    an interrupt the folder stays, and the same call goes on.
    """
    folder = Path(folder)
    _require_usable(folder)
    with contextlib.ExitStack() as claims:
        locked = _claim(claims, folder)
        _require_usable(folder)  # nor has another process used it just before
        if locked:
            claims.callback(_remove_partial, folder)
            _remove_partial(folder)
        return _Preparation(request, folder, processes or default_processes(), progress or Silent()).run()


def default_processes() -> int:
    return min(threads.cores(), MOST_PROCESSES)


def _claim(claims: contextlib.ExitStack, folder: Path) -> bool:
    """Create and lock the folder. Returns whether the system has locks."""
    try:
        _, locked = locks.hold_folder(claims, folder, LOCK)
    except locks.Held:
        raise ConfigError(f"another process is preparing {folder}; wait until it has ended") from None
    except OSError as error:
        if not files.is_of_the_path(error):
            raise
        raise ConfigError(f"cannot write to {folder}: {error.strerror}; choose another --out") from None
    if not locked:
        cache.say(f"no locks for {folder} on this system: see to it that no other process prepares it too")
    return locked


def _require_usable(folder: Path) -> None:
    """ConfigError if the folder holds anything that this program did not write there."""
    if (found := files.status(folder)) is None or not files.is_folder(folder):
        if found:
            raise ConfigError(f"{folder} is a file; expected a folder for --out, or one that is not there yet")
        return
    names = sorted(os.listdir(folder))
    if PLAN in names:
        return
    if INDEX in names:
        raise ConfigError(f"{folder} holds a corpus whose {PLAN} is gone; give another --out")
    leftover = re.compile(rf"\.(?:{_WRITTEN})\.\d+-[0-9a-f]{{8}}\.partial|{re.escape(STDIN)}|{re.escape(LOCK)}")
    if others := [name for name in names if not leftover.fullmatch(name)]:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ConfigError(f"{folder} holds {others[0]}{more}; give an empty or a new folder for --out")


def _remove_partial(folder: Path) -> None:
    """Remove what this or a killed process did not finish."""
    shutil.rmtree(folder / STDIN, ignore_errors=True)
    files.remove_partial(folder, _WRITTEN)


class _Preparation:
    """One call of `prepare`, in a folder that this process alone works on."""

    def __init__(self, request: Request, folder: Path, processes: int, progress: Progress) -> None:
        self.request, self.folder = request, folder
        self.processes, self.progress = processes, progress
        self.earlier = Plan.read(folder)
        self.options = {"field": request.field}

    def run(self) -> Summary:
        begun = False
        try:
            plan, splits = self._plan()
            complete = (self.folder / INDEX).exists()
            if self.earlier:
                self._require_same(plan, complete)
            else:
                plan.write(self.folder)
            complete = complete and self._is_sound(plan)
            begun = True
            if not complete:
                self._make_tokenizer(splits)
                self._finish(plan, splits, self._make_shards(splits))
        except ConfigError:  # the data cannot be used, now or later
            if begun or not self.earlier:
                self._remove_all()
            raise
        self._remove(r"(?:train|val)-\d{5,}\.json")  # of a process that was killed behind its index
        return self._summary(complete)

    # -------------------------------------------------------------------------------------- the plan

    def _plan(self) -> tuple[Plan, Splits]:
        """The plan and the units of what is asked for now."""
        path, stdin = self._stdin()
        splits, stamps = [], []
        for paths in (self.request.data, self.request.val_data):
            sources = find_sources(paths, standard_input=path)
            splits.append(units(sources))
            stamps.append([stdin if stdin and source.name == STANDARD_INPUT else stamp(source) for source in sources])
        return Plan.of(self.request, stamps), splits

    def _stdin(self) -> tuple[Path | None, Stamp | None]:
        """A copy of standard input, which other processes can read, and its stamp; None if it is not asked for."""
        count = [*self.request.data, *self.request.val_data].count("-")
        if not count:
            return None, None
        if count > 1:
            raise ConfigError("standard input, -, is given twice; it can be read once")
        (self.folder / STDIN).mkdir(exist_ok=True)
        path = save_standard_input(self.folder / STDIN)
        with open(path, "rb") as file:
            return path, ["-", path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]

    def _require_same(self, plan: Plan, complete: bool) -> None:
        """ConfigError unless the plan is the one that the folder was begun with."""
        assert self.earlier
        if difference := plan.difference(self.earlier):
            raise self._other(difference, complete)
        if not complete and self.earlier.program != plan.program:
            raise self._other(f"version {self.earlier.program} began it, and this is {plan.program}", complete)

    def _other(self, difference: str, complete: bool) -> ConfigError:
        what = "holds another corpus" if complete else "was begun for another corpus"
        return ConfigError(f"{self.folder} {what}: {difference}; give another --out, or remove the folder")

    # -------------------------------------------------------------------------------------- the work

    def _is_sound(self, plan: Plan) -> bool:
        """Whether the complete corpus is as it was written. A damaged one is removed, to be made again.

        ConfigError if another version of the program wrote it, which may have known better.
        """
        assert self.earlier
        try:
            shards.open_corpus(self.folder, Checking(self.progress))
        except ConfigError as error:
            if self.earlier.program != plan.program:
                raise
            self._remove(rf"(?!{re.escape(PLAN)})(?:{_WRITTEN})")
            fault = str(error).removesuffix(f"; {shards.ADVICE}")
            streams.note(one_line(f"{fault}; the corpus is made again now"))
            return False
        return True

    def _make_tokenizer(self, splits: Splits) -> None:
        if (self.folder / TOKENIZER).exists():
            return
        spec, vocab_size = self.request.tokenizer, self.request.vocab_size
        learned = learned_units(spec, splits)
        if not learned:
            write_tokenizer(self.folder, make_tokenizer(spec, vocab_size, [], {}))
            return
        arguments = {
            "folder": str(self.folder), "spec": spec, "vocab_size": vocab_size, "options": self.options,
            "splits": [[unit.to_json() for unit in units] for units in learned],
        }  # fmt: skip
        sizes = [sum(unit.size for units in learned for unit in units)]
        task = Task("tokenizer", "the text for the tokenizer", arguments)
        self._work("tokenizer", [task], sizes, 0, threads=self.processes)

    def _tokenizer(self) -> Tokenizer:
        return loaded(str(self.folder / TOKENIZER))

    def _make_shards(self, splits: Splits) -> dict[str, list[Entry]]:
        """What the index says of each shard; those that are missing are made."""
        tokenizer, entries, missing, done = self._tokenizer(), {}, [], 0
        for split, parts in zip(SPLITS, splits, strict=True):
            names = [f"{split}-{number:05d}" for number in range(len(parts))]
            entries[split] = [shards.finished_shard(self.folder, name, id_type(tokenizer)) for name in names]
            missing += [(split, number) for number, entry in enumerate(entries[split]) if not entry]
            done += sum(unit.size for unit, entry in zip(parts, entries[split], strict=True) if entry)
        self._make(missing, splits, entries, {(split, 0) for split in SPLITS}, done)
        if tokenizer.end_of_text is None:  # no "\n" in front of the first document, whichever unit that is in
            first = [
                next((n for n, entry in enumerate(entries[split]) if entry and entry["tokens"]), 0) for split in SPLITS
            ]
            again = [(split, number) for split, number in zip(SPLITS, first, strict=True) if number]
            self._make(again, splits, entries, set(again), 0)
        return {split: [entry for entry in entries[split] if entry] for split in SPLITS}

    def _make(
        self, missing: list[Place], splits: Splits, entries: dict[str, list[Entry | None]], first: set[Place], done: int
    ) -> None:
        """Make these shards and set what the index says of them; first: units that the text of a split begins with."""
        tasks, sizes = [], []
        for split, number in missing:
            unit = splits[SPLITS.index(split)][number]
            arguments = {"folder": str(self.folder), "name": f"{split}-{number:05d}", "unit": unit.to_json(),
                         "first": (split, number) in first, "options": self.options}  # fmt: skip
            tasks.append(Task("shard", str(unit), arguments))
            sizes.append(unit.size)
        if tasks:
            for (split, number), entry in zip(missing, self._work("tokens", tasks, sizes, done), strict=True):
                entries[split][number] = entry

    def _work(self, what: str, tasks: list[Task], sizes: list[int], done: int, threads: int = 1) -> list[Any]:
        """The results of the tasks; sizes: bytes that each reads; done: bytes that were read earlier."""
        answers: list[Any] = [None] * len(tasks)
        reading = [Reading(self.progress, size) for size in sizes]

        def tell(index: int, n: int) -> None:
            reading[index](n)

        self.progress.begin(what, sum(sizes) + done, done)
        try:
            with contextlib.closing(workers.results(tasks, self.processes, tell, threads)) as results:
                for index, answer in results:
                    answers[index] = answer
                    reading[index].end()
        finally:
            self.progress.end()
        return answers

    def _finish(self, plan: Plan, splits: Splits, entries: dict[str, list[Entry]]) -> None:
        if changed := plan.changed_files():
            raise ConfigError(f"{changed} this command began; start it again when the data stay as they are")
        require_text(splits, list(entries.values()))
        tokenizer = self._tokenizer()
        shards.write_index(
            self.folder, tokenizer, id_type(tokenizer), entries["train"], entries["val"], separator_of(tokenizer)
        )

    # -------------------------------------------------------------------------------------- the folder

    def _remove(self, names: str) -> None:
        """Delete the files of these names, a regular expression."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if re.fullmatch(names, entry.name) and entry.is_file(follow_symlinks=False):
                    os.unlink(entry.path)

    def _remove_all(self) -> None:
        """Delete what was written here; the plan last, since without it a later call refuses the folder."""
        self._remove(rf"(?!{re.escape(PLAN)})(?:{_WRITTEN})")
        self._remove(re.escape(PLAN))

    def _summary(self, earlier: bool) -> Summary:
        index = shards.read_index(self.folder)
        splits = {
            split: tuple(sum(entry[key] for entry in entries) for key in ("documents", "tokens", "bytes"))
            for split, entries in index["splits"].items()
        }
        return Summary(self.folder, index["vocab_size"], splits, earlier)
