"""A corpus while a program reads it: files that change under it, and more files than may be open."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tiny_transformer_np import ConfigError
from tiny_transformer_np.corpus.shards import EncodedPiece, open_corpus, write_index, write_shard
from tiny_transformer_np.tokenizers import IdTokenizer

SHARD = "train-00001.bin"


@pytest.fixture
def corpus(tmp_path):
    """Two shards of 200 ids."""
    names = ("train-00000", "train-00001")
    entries = [write_shard(tmp_path, name, [EncodedPiece(np.arange(200), 0, True)], "uint16") for name in names]
    write_index(tmp_path, IdTokenizer(1000), "uint16", entries)
    return tmp_path


def test_a_shard_that_becomes_shorter_in_use_is_an_error_and_does_not_kill_the_process(corpus):
    tokens = open_corpus(corpus).train
    tokens.windows([0, 190], 30)
    os.truncate(corpus / SHARD, 0)
    for read in (lambda: tokens.windows([250], 9), lambda: tokens.windows([195], 9), lambda: tokens[150:250]):
        with pytest.raises(ConfigError, match="became shorter while it was in use"):
            read()
    assert tokens.windows([100], 50).shape == (1, 50)  # the other shard


def test_a_shard_that_is_replaced_before_it_is_first_read_is_an_error(corpus):
    tokens = open_corpus(corpus).train
    (corpus / "new").write_bytes(b"\0\0" * 200)
    os.replace(corpus / "new", corpus / SHARD)
    with pytest.raises(ConfigError, match="was changed or replaced while it was in use"):
        tokens.windows([250], 9)


@pytest.mark.posix
def test_a_run_goes_on_when_a_shard_gets_another_link_or_other_permissions_before_it_is_first_read(corpus):
    tokens = open_corpus(corpus).train
    os.link(corpus / SHARD, corpus / "backup")
    os.chmod(corpus / SHARD, 0o400)
    assert tokens.windows([250], 9).shape == (1, 9)


MANY_SHARDS = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import numpy as np
from tiny_transformer_np.corpus.shards import *
from tiny_transformer_np.tokenizers import IdTokenizer

folder = sys.argv[1]
ids = np.random.default_rng(0).integers(0, 1000, 80 * 10)
entries = [write_shard(folder, f"train-{i:05}", [EncodedPiece(ids[10 * i : 10 * (i + 1)], 0, True)], "uint16")
           for i in range(80)]
write_index(folder, IdTokenizer(1000), "uint16", entries)
tokens = open_corpus(folder).train

def check():
    starts = np.random.default_rng(1).integers(0, 700, 500)
    assert (tokens.windows(starts, 100) == np.lib.stride_tricks.sliding_window_view(ids, 100)[starts]).all()
    assert (tokens.ends[:] == np.arange(10, 801, 10)).all()
    assert len(os.listdir("/dev/fd")) < 50

check()
child = os.fork()
if not child:
    check()
    os._exit(0)
check()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.posix
def test_more_shards_than_files_may_be_open_are_read_by_a_process_and_its_forked_child(tmp_path):
    subprocess.run([sys.executable, "-W", "ignore", "-c", MANY_SHARDS, tmp_path / "corpus"], check=True)
