"""Files of other trainers, made here from their published layouts: read as they are, or refused in one line."""

import gzip
import io
import pickle

import numpy as np
import pytest
from safetensors.numpy import save

from kernels.system.printable import printable
from tiny_transformer_np import ConfigError
from tiny_transformer_np.corpus.foreign import is_foreign, open_foreign
from tiny_transformer_np.corpus.shards import write_index, write_shard
from tiny_transformer_np.tokenizers import ByteTokenizer, IdTokenizer

IDS = np.random.default_rng(24).integers(0, 50257, 3000)
GPT2 = (20240520, 1, np.dtype("<u2"))  # llm.c's dev/data/data_common.py: magic number, version, dtype
LLAMA3 = (20240801, 7, np.dtype("<u4"))


def llm_c(ids, form=GPT2, count=None):
    """The bytes of llm.c's write_datafile."""
    magic, version, dtype = form
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids) if count is None else count
    return header.tobytes() + np.asarray(ids).astype(dtype).tobytes()


def raw(ids):
    """The bytes of nanoGPT's prepare.py: np.array(ids, dtype=np.uint16).tofile."""
    return np.asarray(ids).astype("<u2").tobytes()


def put(path, content):
    path.write_bytes(content)
    return path


def refusal(*args, **options):
    with pytest.raises(ConfigError) as error:
        open_foreign(*args, **options)
    line = str(error.value)
    assert "\n" not in line and printable(line) == line
    return line


def test_nanogpts_folder_is_read_as_it_is(tmp_path):
    put(tmp_path / "train.bin", raw(IDS))
    put(tmp_path / "val.bin", raw(IDS[:100]))
    assert is_foreign(tmp_path)
    corpus = open_foreign([tmp_path])
    np.testing.assert_array_equal(corpus.train[:], IDS)
    np.testing.assert_array_equal(corpus.val[:], IDS[:100])
    assert corpus.tokenizer.to_json() == {"kind": "ids", "vocab_size": IDS.max() + 1} and not corpus.notes
    assert len(corpus.train.ends) == 0


def test_a_folder_without_a_val_bin_has_nothing_to_validate_on(tmp_path):
    put(tmp_path / "train.bin", raw(IDS))
    assert open_foreign([tmp_path]).val is None
    validated = open_foreign([tmp_path], [put(tmp_path / "other.bin", raw(IDS[:9]))])
    np.testing.assert_array_equal(validated.val[:], IDS[:9])


def test_validation_data_replace_the_val_bin(tmp_path):
    put(tmp_path / "train.bin", raw(IDS))
    put(tmp_path / "val.bin", raw(IDS[:100]))
    other = tmp_path / "other"
    other.mkdir()
    put(other / "val.bin", raw(IDS[:9]))
    np.testing.assert_array_equal(open_foreign([tmp_path], [other]).val[:], IDS[:9])


@pytest.mark.parametrize("form", [GPT2, LLAMA3])
def test_llm_c_files_are_read_as_they_are(form, tmp_path):
    ids = IDS * (2 if form is LLAMA3 else 1)
    path = put(tmp_path / "tiny_shakespeare_train.bin", llm_c(ids, form))
    corpus = open_foreign([path], [put(tmp_path / "tiny_shakespeare_val.bin", llm_c(ids[:50], form))])
    assert is_foreign(path)
    np.testing.assert_array_equal(corpus.train[:], ids)
    np.testing.assert_array_equal(corpus.val[:], ids[:50])
    np.testing.assert_array_equal(corpus.train.windows([0, 2900], 100), [ids[:100], ids[2900:]])
    assert corpus.train.dtype == form[2]


def test_several_files_are_one_sequence(tmp_path):
    for number, write in enumerate((raw, llm_c)):
        paths = [put(tmp_path / f"{number}_{i}.bin", write(IDS[1000 * i : 1000 * (i + 1)])) for i in range(3)]
        corpus = open_foreign(paths)
        np.testing.assert_array_equal(corpus.train[:], IDS)
        np.testing.assert_array_equal(corpus.train.windows([990], 1020), [IDS[990:2010]])
        assert corpus.digest != open_foreign(paths[::-1]).digest


def test_the_digest_is_of_the_content_not_of_its_place(tmp_path):
    digests = set()
    for name, content in (("a", raw(IDS)), ("b", raw(IDS)), ("c", raw(IDS[::-1]))):
        (tmp_path / name).mkdir()
        digests.add(open_foreign([put(tmp_path / name / "x.bin", content)]).digest)
    assert len(digests) == 2


def test_the_tokenizer_is_the_one_given_or_numbers(tmp_path):
    path = put(tmp_path / "x.bin", raw([5, 300, 2]))
    assert open_foreign([path]).tokenizer.vocab_size == 301
    assert open_foreign([path], vocab_size=50304).tokenizer.vocab_size == 50304
    tokenizer = IdTokenizer(400)
    assert open_foreign([path], tokenizer=tokenizer).tokenizer is tokenizer
    assert "has the id 300, but its tokenizer has 257 ids" in refusal([path], tokenizer=ByteTokenizer())
    assert "has the id 300, but vocab_size is 300" in refusal([path], vocab_size=300)
    val = put(tmp_path / "val.bin", raw([5, 800, 2]))
    assert open_foreign([path], [val]).tokenizer.vocab_size == 801
    assert "val.bin has the id 800" in refusal([path], [val], tokenizer=tokenizer)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was read')",)


def test_a_pickle_is_not_read_and_a_note_says_so(tmp_path):
    put(tmp_path / "train.bin", raw(IDS))
    put(tmp_path / "meta.pkl", pickle.dumps(Evil()))
    [note] = open_foreign([tmp_path]).notes
    assert "meta.pkl is not read" in note and "--tokenizer" in note


def npy():
    file = io.BytesIO()
    np.save(file, IDS)
    return file.getvalue()


REFUSED = {
    "empty": (b"", "is empty"),
    "odd": (raw(IDS)[:-1], "5,999 bytes"),
    "cut": (llm_c(IDS)[:-2], "is cut off: a header of 3,000 ids means 7,024 bytes, and it has 7,022"),
    "long": (llm_c(IDS) + b"\0\0", "does not fit its header"),
    "header alone": (llm_c([])[:40], "is cut off: 40 bytes"),
    "magic alone": (llm_c([])[:4], "is cut off: 4 bytes"),
    "no ids": (llm_c([]), "has no ids"),
    "negative": (llm_c(IDS, count=-1), "does not fit its header"),
    "huge": (llm_c(IDS, count=2**31 - 1), "is cut off"),
    "other version": (llm_c(IDS, (20240520, 7, np.dtype("<u2"))), "version 7 of format 20240520; expected 1"),
    "older version": (llm_c(IDS, (20240801, 1, np.dtype("<u4"))), "version 1 of format 20240801; expected 7"),
    "model": (llm_c(IDS, (20240326, 3, np.dtype("<u2"))), "is a model of llm.c"),
    "safetensors": (save({"a": np.zeros(300, np.float32)}), "is a safetensors file"),
    "gguf": (b"GGUF" + raw(IDS), "is a GGUF model"),
    "pytorch": (b"PK\3\4" + raw(IDS), "a zip file, as PyTorch writes them"),
    "numpy": (npy(), "is a NumPy array"),
    "gzip": (gzip.compress(raw(IDS)), "is a gzip file"),
    "text": ("Wer reitet so spät durch Nacht und Wind?\n".encode() * 40, "is a text"),
    "uint32": (IDS.astype("<u4").tobytes(), "more than 16 bits"),
    "bytes as uint32": (np.arange(3, 200).astype("<u4").tobytes(), "more than 16 bits"),
    "int64": (IDS.astype("<i8").tobytes(), "more than 16 bits"),
    "llama 3 without header": ((IDS * 2).astype("<u4").tobytes(), "more than 16 bits"),
    "absurd ids": (llm_c([2**32 - 1], LLAMA3), "has the id 4294967295"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_such_file_is_refused_in_one_line(kind, tmp_path):
    content, why = REFUSED[kind]
    line = refusal([put(tmp_path / "data.bin", content)])
    assert why in line and "data.bin" in line


def test_missing_and_unreadable_files_are_refused(tmp_path):
    assert "No such file" in refusal([tmp_path / "data.bin"])
    assert "No such file" in refusal([tmp_path])
    put(tmp_path / "train.bin", raw(IDS))
    assert "is a folder among 2 paths" in refusal([tmp_path, tmp_path / "train.bin"])


def test_formats_are_not_mixed(tmp_path):
    contents = {"raw": raw(IDS), "gpt2": llm_c(IDS), "llama3": llm_c(IDS, LLAMA3)}
    paths = [put(tmp_path / f"{name}.bin", content) for name, content in contents.items()]
    for i in range(3):
        assert "give files of one format" in refusal([paths[i], paths[i - 1]])
        assert "give files of one format" in refusal([paths[i]], [paths[i - 1]])


@pytest.mark.parametrize(
    "ids",
    [
        np.arange(65).repeat(50),
        np.zeros(500),
        np.tile([0, 1, 2, 3], 200),
        np.tile([700, 0, 3, 900, 11], 99),
        np.tile([60, 0, 64, 3, 67, 1], 99),
        [7],
    ],
    ids=["characters", "zeros", "four letters", "zeros among others", "notes and their lengths", "one"],
)
def test_unusual_ids_are_not_taken_for_another_kind_of_file(ids, tmp_path):
    np.testing.assert_array_equal(open_foreign([put(tmp_path / "x.bin", raw(ids))]).train[:], ids)


def test_a_corpus_folder_and_a_text_are_none_of_these(tmp_path):
    write_index(tmp_path, IdTokenizer(5), "uint16", [write_shard(tmp_path, "train-00000", [], "uint16")])
    put(tmp_path / "train.bin", raw(IDS))
    assert not is_foreign(tmp_path) and not is_foreign(put(tmp_path / "book.txt", b"text"))


def test_files_are_read_once_until_they_change(tmp_path, monkeypatch):
    from tiny_transformer_np.corpus import checksums

    monkeypatch.setattr(checksums, "_SETTLED", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = put(tmp_path / "x.bin", raw(IDS))
    reads = []
    first = open_foreign([path], progress=lambda done, total: reads.append((done, total)))
    assert reads == [(6000, 6000)]
    again = open_foreign([path], progress=lambda done, total: reads.append((done, total)))
    assert len(reads) == 1 and again.digest == first.digest
    assert again.tokenizer.vocab_size == first.tokenizer.vocab_size
    put(path, raw([*IDS[:-1], 60_000]))
    assert open_foreign([path]).tokenizer.vocab_size == 60_001


def test_random_raw_files_are_never_taken_for_another_kind(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(300):
        ids = rng.integers(0, rng.choice([2, 65, 300, 50257, 65536]), rng.integers(1, 300))
        corpus = open_foreign([put(tmp_path / f"{number}.bin", raw(ids))])
        np.testing.assert_array_equal(corpus.train[:], ids)
