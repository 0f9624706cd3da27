"""The command that makes a corpus: what it leaves on disk, also when processes are killed, and what it refuses."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from benchmarks import zipf_text
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus import work_units
from tiny_transformer_np.corpus.cache import cached_corpus
from tiny_transformer_np.corpus.plan import Request
from tiny_transformer_np.corpus.prepare import LOCK, prepare
from tiny_transformer_np.corpus.shards import open_corpus
from tiny_transformer_np.training import prepare as command
from tiny_transformer_np_package_check import __version__

ROOT = Path(__file__).parent.parent
# The command with work units of so many bytes instead of 16 MB; workers get their units from it
PROGRAM = """
import sys
from tiny_transformer_np.corpus import work_units
work_units.UNIT = 1 << 16
from tiny_transformer_np.training.prepare import main
sys.exit(main())
"""
# stops itself, as Ctrl-Z does, when so many answers of workers have come
STOPPING = """
import os, signal
from tiny_transformer_np.corpus import workers
original = workers.results
def results(*args):
    for number, result in enumerate(original(*args), 1):
        yield result
        if number == {answers}:
            os.kill(os.getpid(), signal.SIGSTOP)
workers.results = results
"""


def start(folder, *args, program=PROGRAM, **options):
    """The command, running in `folder`."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", program, *map(str, args)], cwd=folder, env=env, **options)


def run(folder, *args, status=0, **options):
    """(stdout, stderr) of the command once it has ended with this status."""
    written = options.pop("input", None)
    process = start(folder, *args, **options)
    stdout, stderr = process.communicate(written, timeout=600)
    assert process.returncode == status, (process.returncode, stdout, stderr)
    return stdout, stderr


def refused(folder, *args, status=2, **options):
    """The one line that the command ends with."""
    stdout, stderr = run(folder, *args, status=status, **options)
    assert stdout == "" and stderr.count("\n") == 1 and "Traceback" not in stderr, (stdout, stderr)
    return stderr


def contents(corpus):
    """{name: bytes} of the files of a corpus that depend on text and tokenizer alone."""
    return {path.name: path.read_bytes() for path in corpus.iterdir() if path.name != "plan.json"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with text in many forms, to be read and not changed."""
    folder = tmp_path_factory.mktemp("data")
    documents = list(zipf_text.documents(1_500_000))
    long, val, lines = documents[:200], documents[200:250], documents[250:]
    (folder / "val").mkdir()
    (folder / "val" / "val.txt").write_text("\n".join(val), encoding="utf-8")
    (folder / "long.txt").write_text("\n".join(long), encoding="utf-8")
    (folder / "lines.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in lines), encoding="utf-8")
    for number in range(20):
        (folder / f"short{number:02}.md").write_text(f"document {number}\n" * number + "end", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """{tokenizer: folder} of corpora that one process made."""
    folder = tmp_path_factory.mktemp("made")
    for kind in ("char", "byte"):
        make(folder / kind, data, kind, processes=1)
    return {kind: folder / kind for kind in ("char", "byte")}


def request(data, kind):
    files = [data / "long.txt", data / "lines.jsonl", f"{data}/*.md"]
    return Request(tuple(map(str, files)), (str(data / "val"),), kind)


def make(folder, data, kind, processes=2):
    """What the command does, called from this process."""
    with mock.patch.object(work_units, "UNIT", 1 << 16):
        return prepare(request(data, kind), folder, processes)


def arguments(data, kind):
    asked = request(data, kind)
    return [*asked.data, "--val-data", *asked.val_data, "--tokenizer", kind]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 400)
    return path


# ------------------------------------------------------------------------------------------ what is made


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_the_bytes_do_not_depend_on_the_number_of_processes(data, made, kind, tmp_path):
    make(tmp_path / "corpus", data, kind, processes=3)
    assert contents(tmp_path / "corpus") == contents(made[kind]) and len(contents(made[kind])) > 20


def test_the_command_ends_with_the_one_that_trains(text, tmp_path):
    stdout, stderr = run(tmp_path, text, "--tokenizer", "byte", "--out", "a/b c")
    assert stdout.startswith("train     1 document, 18,001 tokens, 1.00 bytes a token\n") and stderr == ""
    assert "train on it with:" in stdout and stdout.rstrip().endswith(" --data 'a/b c'")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "text.txt"]


def test_a_corpus_of_characters_is_the_text(data, made):
    """Documents are joined by line breaks, as a run joins the files that it is given."""
    lines = (data / "lines.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [(data / "long.txt").read_text(encoding="utf-8"), *(json.loads(line)["text"] for line in lines)]
    documents += [path.read_text(encoding="utf-8") for path in sorted(data.glob("*.md"))]
    corpus = open_corpus(made["char"])
    assert corpus.tokenizer.decode(corpus.train[:]) == "\n".join(documents)
    assert corpus.tokenizer.decode(corpus.val[:]) == (data / "val" / "val.txt").read_text(encoding="utf-8")
    assert len(corpus.train.ends) == len(documents)
    index = json.loads((made["char"] / "index.json").read_text())
    assert sum(entry["bytes"] for entry in index["splits"]["train"]) == len("\n".join(documents).encode())


@pytest.mark.parametrize("n_processes", [0, 2])
def test_units_without_text_leave_no_line_break(tmp_path, n_processes):
    """The first document has none in front of it, whichever unit it is in. 0: through the cache."""
    for name in "abcd":
        (tmp_path / f"{name}.jsonl").write_text('{"text": ""}\n' * 20)
    (tmp_path / "c.txt").write_text("hello")
    (tmp_path / "e.txt").write_text("world")
    files = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl", "c.txt", "d.jsonl", "e.txt")]
    with mock.patch.object(work_units, "UNIT", 200):
        if n_processes:
            prepare(Request(tuple(files), tuple(files[:3]), "char"), tmp_path / "corpus", n_processes)
            corpus = open_corpus(tmp_path / "corpus")
        else:
            corpus = cached_corpus(files, files[:3]).corpus
    decoded = [corpus.tokenizer.decode(tokens[:]) for tokens in (corpus.train, corpus.val)]
    assert decoded == ["hello\nworld", "hello"]


def test_every_document_of_a_corpus_of_bytes_has_its_end(data, made):
    corpus = open_corpus(made["byte"])
    ends = corpus.train.ends[:]
    assert (corpus.train[:][ends - 1] == 256).all() and (corpus.train[:] == 256).sum() == len(ends)
    start = int(ends[-2])
    assert corpus.tokenizer.decode(corpus.train[start:]) == (data / "short19.md").read_text() + "<|endoftext|>"


def test_standard_input_is_a_file_like_others(text, tmp_path):
    prepare(Request((str(text),), (), "byte"), tmp_path / "file")
    asked = ["-", "--tokenizer", "byte", "--out", "stdin"]
    for said in "train     1 document", "stdin was complete already":
        with open(text) as file:
            assert run(tmp_path, *asked, stdin=file)[0].startswith(said)
        assert contents(tmp_path / "stdin") == contents(tmp_path / "file")
    assert "standard input has changed since" in refused(tmp_path, *asked, stdin=subprocess.PIPE, input="other text")
    assert contents(tmp_path / "stdin") == contents(tmp_path / "file")


# ------------------------------------------------------------------------------------------ kills


def children(pid):
    """The processes that run and were started by this one, or by one that it started."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in table.splitlines()]
    found, new = set(), {pid}
    while new:
        new = {int(row[0]) for row in rows if int(row[1]) in new and not row[2].startswith("Z")} - found
        found |= new
    return found


def require_ended(pids, seconds):
    """Assert that these processes end within that time."""
    deadline = time.monotonic() + seconds
    while pids and time.monotonic() < deadline:
        stats = subprocess.run(["ps", "-o", "stat=", *(f"-p{pid}" for pid in pids)], capture_output=True, text=True)
        if all(stat.startswith("Z") for stat in stats.stdout.split()):
            return
        time.sleep(0.02)
    if pids:
        pytest.fail(f"of the processes {sorted(pids)} some run {seconds} seconds later: {stats.stdout.split()}")


@contextlib.contextmanager
def stopped(folder, answers, *args):
    """The command, stopped when so many shards are done."""
    with start(folder, *args, program=STOPPING.replace("{answers}", str(answers)) + PROGRAM) as process:
        try:
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]), process.stderr.read()
            yield process
        finally:
            process.kill()


@pytest.mark.posix
def test_a_command_that_was_ended_in_any_way_goes_on(data, made, tmp_path):
    """Killed, or asked to stop, or one of its processes killed, as the system does when memory runs out."""
    args, corpus = [*arguments(data, "char"), "--out", "corpus", "--processes", 2], tmp_path / "corpus"
    for answers, end in (
        (1, "killed"),
        (3, "killed"),
        (1, signal.SIGINT),
        (1, signal.SIGTERM),
        (2, "worker killed"),
    ):
        with stopped(tmp_path, answers, *args) as process:
            started = children(process.pid)
            time.sleep(random.random() / 20)
            if end == "killed":
                process.kill()
                require_ended(started, 2)  # in the middle of their work
                continue
            if end == "worker killed":
                os.kill(min(started), signal.SIGKILL)
            else:
                process.send_signal(end)
            began = time.monotonic()
            process.send_signal(signal.SIGCONT)
            stdout, stderr = process.communicate(timeout=60)
            assert len(started) == 2 and (end == "worker killed" or time.monotonic() - began < 1)
            require_ended(started, 0.1)
        assert stdout == "" and "Traceback" not in stderr, stderr
        if end == "worker killed":
            assert process.returncode == 1 and stderr.count("\n") == 1, stderr
            assert "killed (SIGKILL), perhaps for lack of memory" in stderr and "the same command goes on" in stderr
            assert any(name in stderr for name in ("long.txt", "lines.jsonl", "short", "val.txt"))
        else:
            assert process.returncode == 128 + end and stderr.count("\n") == (end == signal.SIGINT), stderr
        left = {path.name for path in corpus.iterdir()}
        assert "plan.json" in left and "index.json" not in left and not [name for name in left if name.startswith(".")]
    assert len(list(corpus.glob("*.json"))) > 7
    make(corpus, data, "char")
    assert contents(corpus) == contents(made["char"])


@pytest.mark.posix
def test_a_full_disk_is_the_commands_error(text, tmp_path):
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", sys.executable, "-c", PROGRAM]
    args = [text, "--tokenizer", "byte", "--out", "corpus"]
    done = subprocess.run(
        [*limited, *map(str, args)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done
    assert "File too large: corpus/train-00000." in done.stderr and "; the same command goes on" in done.stderr
    assert sorted(path.name for path in (tmp_path / "corpus").iterdir()) == ["plan.json", "tokenizer.json"]
    run(tmp_path, *args)


def test_files_that_killed_processes_left_are_removed(text, tmp_path):
    prepare(Request((str(text),), (), "byte"), tmp_path / "corpus")
    (tmp_path / "corpus" / "index.json").unlink()
    (tmp_path / "corpus" / ".train-00000.bin.123-0123abcd.partial").write_text("half")
    (tmp_path / "corpus" / LOCK).touch()
    prepare(Request((str(text),), (), "byte"), tmp_path / "corpus")
    assert sorted(path.name for path in (tmp_path / "corpus").iterdir()) == [
        "index.json", "plan.json", "tokenizer.json", "train-00000.bin", "train-00000.borders",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------ what is refused


def asked(text, **changes):
    return Request(**{"data": (str(text),), "tokenizer": "byte", **changes})


def require_refused(folder, request, *words):
    """Assert that the request is refused with these words, and that the folder stays as it was."""
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError) as error:
        prepare(request, folder)
    for word in words:
        assert word in str(error.value), error.value
    assert {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()} == before


def test_a_complete_corpus_is_not_made_again(text, tmp_path):
    folder = tmp_path / "corpus"
    assert not prepare(asked(text), folder).earlier
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare(asked(text), folder, 2).earlier
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_damaged_corpus_is_made_again(text, tmp_path, capsys):
    prepare(asked(text), tmp_path / "corpus")
    whole = contents(tmp_path / "corpus")
    for name, damaged in (
        ("train-00000.bin", whole["train-00000.bin"][:-2]),
        ("tokenizer.json", b"{}"),
        ("index.json", b""),
    ):
        (tmp_path / "corpus" / name).write_bytes(damaged)
        assert not prepare(asked(text), tmp_path / "corpus").earlier
        assert contents(tmp_path / "corpus") == whole
        said = capsys.readouterr().err
        assert f"corpus/{name}" in said and said.endswith("; the corpus is made again now\n") and said.count("\n") == 1


def test_a_corpus_of_another_version_stays_even_if_this_one_cannot_read_it(text, tmp_path):
    prepare(asked(text), tmp_path / "corpus")
    for name, old, new in ("index.json", '"version": 1', '"version": 2'), ("plan.json", __version__, "9.9.9"):
        path = tmp_path / "corpus" / name
        path.write_text(path.read_text().replace(old, new))
    require_refused(tmp_path / "corpus", asked(text), "index.json has version 2; expected 1")
    (tmp_path / "corpus" / "index.json").unlink()
    require_refused(tmp_path / "corpus", asked(text), f"version 9.9.9 began it, and this is {__version__}")


@pytest.mark.parametrize("begun", [False, True])
def test_a_folder_of_other_arguments_or_files_is_refused(text, tmp_path, begun):
    folder = tmp_path / "corpus"
    prepare(asked(text), folder)
    if begun:
        (folder / "index.json").unlink()
    what = "was begun for another corpus" if begun else "holds another corpus"
    advice = "give another --out, or remove the folder"
    require_refused(
        folder, asked(text, tokenizer="char"), what, "tokenizer was 'byte' there, and is 'char' now", advice
    )
    require_refused(folder, asked(text, field="body"), what, "field was 'text' there, and is 'body' now", advice)
    require_refused(folder, asked(text, val_data=(str(text),)), what, "text.txt was not among its files", advice)
    (tmp_path / "more.txt").write_text("more")
    more = (str(tmp_path / "more.txt"),)
    require_refused(folder, asked(text, data=(str(text), *more)), what, "more.txt was not among its files", advice)
    require_refused(folder, asked(text, data=more), what, "text.txt was among its files", advice)
    text.write_text(text.read_text() + "!")
    require_refused(folder, asked(text), what, "text.txt has changed since", advice)


def test_a_folder_with_other_things_is_refused(text, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "thesis.txt").write_text("mine")
    require_refused(folder, asked(text), "mine holds notes.txt and 1 more; give an empty or a new folder")
    require_refused(text, asked(text), "text.txt is a file; expected a folder for --out")
    (folder / "index.json").write_text("{}")
    require_refused(folder, asked(text), "mine holds a corpus whose plan.json is gone")
    (folder / "plan.json").write_text("{}")
    require_refused(folder, asked(text), "plan.json is not a plan of this program")


@pytest.mark.posix
def test_one_process_at_a_time_works_on_a_folder(text, data, made, tmp_path):
    with stopped(tmp_path, 3, *arguments(data, "char"), "--out", "corpus", "--processes", 2) as process:
        with pytest.raises(ConfigError, match="another process is preparing"):
            prepare(request(data, "char"), tmp_path / "corpus")
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=60)[1] == "" and process.returncode == 0
    assert contents(tmp_path / "corpus") == contents(made["char"])


def test_data_that_cannot_be_used_leave_nothing(text, tmp_path):
    """Whether they are met when the tokenizer is trained, when text is encoded, or before; also in a second attempt."""
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"x" * 5000 + "caf\xe9".encode("latin1"))
    both = (str(text), str(latin))
    for kind in "char", "byte":
        require_refused(
            tmp_path / "new" / "corpus", asked(text, data=both, tokenizer=kind), "latin.txt", "iconv -f latin1"
        )
    require_refused(tmp_path / "new" / "corpus", asked(text, data=("missing.txt",)), "missing.txt")
    require_refused(
        tmp_path / "new" / "corpus", asked(text, tokenizer="missing.json"), "missing.json", "char, byte, bpe"
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_validation_data_without_text_are_refused(text, tmp_path, kind):
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n' * 20)
    empty = (str(tmp_path / "empty.jsonl"),)
    said = "the data of --val-data have no text; give files with text in them"
    require_refused(tmp_path / "new", asked(text, val_data=empty, tokenizer=kind), said)
    with pytest.raises(ConfigError, match=said):
        cached_corpus([text], empty, kind)
    require_refused(tmp_path / "new", asked(text, data=empty, tokenizer=kind), "the data have no text")
    assert not (tmp_path / "new").exists()


def test_a_character_that_a_tokenizer_does_not_know_is_named_with_its_file(text, tmp_path):
    prepare(asked(text, tokenizer="char"), tmp_path / "corpus")
    other = tmp_path / "other.txt"
    other.write_text("the caf\xe9")
    tokenizer = str(tmp_path / "corpus" / "tokenizer.json")
    require_refused(
        tmp_path / "new", asked(text, data=(str(text), str(other)), tokenizer=tokenizer), "other.txt", "'é'"
    )
    assert not (tmp_path / "new").exists()
    prepare(asked(text, tokenizer=tokenizer), tmp_path / "new")
    assert contents(tmp_path / "new") == contents(tmp_path / "corpus")
    prepare(asked(text, tokenizer=str(tmp_path / "corpus")), tmp_path / "newer")
    assert contents(tmp_path / "newer") == contents(tmp_path / "corpus")


def test_options_that_cannot_be_used(capsys):
    for args, said in (
        (["a.txt"], "--out"),
        (["--out", "c"], "PATH"),
        (["a.txt", "--out", "c", "--processes", "-1"], "--processes is -1; expected 0 or more"),
        (["a.txt", "--out", "c", "--vocab-size", "300", "--tokenizer", "char"], "--vocab-size is for --tokenizer bpe"),
        (["a.txt", "--out", "c", "--vocab-size", "12"], "--vocab-size is 12; expected 257 or more"),
    ):
        with mock.patch.object(sys, "argv", ["prepare", *args]), pytest.raises(SystemExit) as left:
            command.main()
        stdout, stderr = capsys.readouterr()
        assert left.value.code == 2 and stdout == "" and stderr.count("\n") == 1 and said in stderr, stderr
