"""A corpus on disk: what was written is what is read, or a line that says what is wrong with it."""

import json

import numpy as np
import pytest

from tiny_transformer_np import tokenizers
from tiny_transformer_np.corpus.shards import (
    EncodedPiece,
    finished_shard,
    is_corpus,
    open_corpus,
    write_index,
    write_shard,
)  # fmt: skip
from tiny_transformer_np.tokenizers import CharTokenizer, IdTokenizer

TOKENIZER = IdTokenizer(1000)


def pieces(rng, n, high=1000):
    for _ in range(n):
        ids = rng.integers(0, high, rng.integers(0, 50))
        yield EncodedPiece(ids, 2 * len(ids), bool(rng.integers(2)))


def make(folder, dtype="uint16", n_train=3, n_val=1):
    """A corpus of a few shards, and (its ids, its document ends) for training."""
    rng = np.random.default_rng(24)
    made = [list(pieces(rng, 6)) for _ in range(n_train + n_val)]
    names = [f"train-{i:05}" for i in range(n_train)] + [f"val-{i:05}" for i in range(n_val)]
    entries = [write_shard(folder, name, iter(each), dtype) for name, each in zip(names, made, strict=True)]
    write_index(folder, TOKENIZER, dtype, entries[:n_train], entries[n_train:])
    ids, ends = np.zeros(0, np.int64), []
    for piece in (piece for each in made[:n_train] for piece in each):
        ids = np.concatenate([ids, piece.ids])
        if piece.ends_document and len(piece.ids):
            ends.append(len(ids))
    return ids, ends


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_what_was_written_is_read(dtype, tmp_path):
    ids, ends = make(tmp_path, dtype)
    corpus = open_corpus(tmp_path)
    np.testing.assert_array_equal(corpus.train[:], ids)
    np.testing.assert_array_equal(corpus.train.ends[:], ends)
    assert corpus.train.dtype == dtype and len(corpus.val) > 0 and corpus.tokenizer.to_json() == TOKENIZER.to_json()
    assert is_corpus(tmp_path) and not is_corpus(tmp_path / "index.json")
    raw = np.memmap(tmp_path / "train-00000.bin", f"<u{np.dtype(dtype).itemsize}", mode="r")  # as nanoGPT reads it
    np.testing.assert_array_equal(raw, ids[: len(raw)])


def test_a_corpus_without_a_val_split_has_none(tmp_path):
    make(tmp_path, n_val=0)
    assert open_corpus(tmp_path).val is None


def test_empty_documents_have_no_border(tmp_path):
    made = [EncodedPiece(np.arange(n), n, ends) for n, ends in ((0, True), (4, False), (0, True), (0, True), (2, True))]
    entry = write_shard(tmp_path, "train-00000", made, "uint16")
    write_index(tmp_path, TOKENIZER, "uint16", [entry, write_shard(tmp_path, "train-00001", [], "uint16")])
    train = open_corpus(tmp_path).train
    assert train[:].tolist() == [0, 1, 2, 3, 0, 1] and train.ends[:].tolist() == [4, 6] and entry["documents"] == 2


def test_the_same_shards_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        make(tmp_path / folder)
    files = [sorted((tmp_path / folder).iterdir()) for folder in ("a", "b")]
    assert [file.name for file in files[0]] == [
        "index.json", "tokenizer.json", "train-00000.bin", "train-00000.borders", "train-00001.bin",
        "train-00001.borders", "train-00002.bin", "train-00002.borders", "val-00000.bin", "val-00000.borders",
    ]  # fmt: skip
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_the_tokenizer_of_a_corpus_keeps_every_character(tmp_path):
    tokenizer = CharTokenizer.from_text("\0a\n\u2028\ud7ff\U0001f600")
    entry = write_shard(tmp_path, "train-00000", [EncodedPiece(np.arange(6), 6, True)], "uint16")
    write_index(tmp_path, tokenizer, "uint16", [entry])
    assert open_corpus(tmp_path).tokenizer.vocabulary == tokenizer.vocabulary


def test_a_tokenizer_takes_no_more_characters_in_a_corpus_than_in_a_checkpoint(tmp_path):
    """Else a large vocabulary, which a checkpoint can hold, makes a corpus that cannot be opened."""
    tokenizer = tokenizers.train("bpe", ["\u0437\u0438\u043c\u0430 \u043b\u0435\u0442\u043e " * 9], 300)
    write_index(tmp_path, tokenizer, "uint16", [])
    text = json.dumps(tokenizer.to_json(), ensure_ascii=False)
    assert (tmp_path / "tokenizer.json").read_text(encoding="utf-8") == text + "\n"


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_corpus_has_the_tokenizer_that_made_it(kind, tmp_path):
    text = "The quick brown fox, the quick brown dog. " * 20
    tokenizer = tokenizers.train(kind, [text], 300)
    ids = tokenizer.encode(text)
    entry = write_shard(tmp_path, "train-00000", [EncodedPiece(ids, len(text), True)], "uint16")
    write_index(tmp_path, tokenizer, "uint16", [entry])
    corpus = open_corpus(tmp_path)
    assert corpus.tokenizer.to_json() == tokenizer.to_json() and corpus.tokenizer.decode(corpus.train[:]) == text
    assert tokenizers.load(tmp_path / "tokenizer.json").to_json() == tokenizer.to_json()


@pytest.mark.parametrize(
    ("name", "ids", "dtype"),
    [("train-00000", [65536], "uint16"), ("train-00000", [-1], "uint16"), ("train-00000", [2**32], "uint32"),
     ("../train-00000", [1], "uint16"), ("test-00000", [1], "uint16"), ("train-00000", [1], "int64")],
)  # fmt: skip
def test_a_shard_that_cannot_be_written_leaves_no_file(name, ids, dtype, tmp_path):
    with pytest.raises(ValueError):
        write_shard(tmp_path, name, [EncodedPiece(np.arange(9), 9, True), EncodedPiece(np.array(ids), 1, True)], dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_is_finished_when_all_its_files_are_there(tmp_path):
    assert finished_shard(tmp_path, "train-00000", "uint32") is None
    entry = write_shard(tmp_path, "train-00000", pieces(np.random.default_rng(1), 6), "uint32")
    assert finished_shard(tmp_path, "train-00000", "uint32") == entry and entry["documents"] > 0
    for name in ("train-00000.bin", "train-00000.borders", "train-00000.json"):
        content = (tmp_path / name).read_bytes()
        for damaged in (None, content[: len(content) // 2], content[:-2], b""):
            (tmp_path / name).unlink()
            if damaged is not None:
                (tmp_path / name).write_bytes(damaged)
            assert finished_shard(tmp_path, "train-00000", "uint32") is None
            (tmp_path / name).write_bytes(content)
    assert finished_shard(tmp_path, "train-00000", "uint32") == entry
