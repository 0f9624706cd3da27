"""Training of byte-level BPE: the same vocabulary on every run, that of Hugging Face's trainer, in bounded memory."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tokenizers as hf
from unicode_texts import random_texts

from tiny_transformer_np import tokenizers
from tiny_transformer_np.tokenizers import bpe_training
from tiny_transformer_np.tokenizers.bpe import BYTE_OF
from tiny_transformer_np.training.dataset import python_manual

ROOT = Path(__file__).resolve().parents[2]
TEXT = python_manual()[:120_000] + " ".join(random_texts(300))


def pieces(text, length):
    """The text in pieces of about `length` characters, each but the first beginning with a line break."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + length)
        end = len(text) if end < 0 or text[end - 1].isspace() else end
        yield text[start:end]
        start = end


def hugging_faces(texts, vocab_size):
    """(vocabulary, merges) that the library makes of whole texts."""
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, show_progress=False,
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


@pytest.mark.parametrize("length", [3000, 10**9])
def test_the_vocabulary_is_that_of_the_library_on_the_whole_text(length):
    made = tokenizers.train("bpe", pieces(TEXT, length), 1001)
    vocabulary, merges = hugging_faces([TEXT], 1000)
    assert dict.fromkeys(made.tokens[:-1]) == dict.fromkeys(sorted(vocabulary, key=vocabulary.get))
    assert made.merges == tuple(merges) and made.vocab_size == 1001 and made.end_of_text == 1000
    assert made.tokens[:256] == tuple(sorted(BYTE_OF))


PROGRAM = """
import hashlib, json, sys
from tiny_transformer_np import tokenizers
from tiny_transformer_np.training.dataset import python_manual
made = tokenizers.train("bpe", [python_manual()[:60_000]], 700)
import os
if hasattr(os, "fork"):  # of which the library warns after it has used threads
    child = os.fork()
    if not child:
        os._exit(len(made.encode("two words")) == 0)
    assert os.waitpid(child, 0)[1] == 0
print(hashlib.sha256(json.dumps(made.to_json()).encode()).hexdigest())
"""


def test_training_is_the_same_on_every_run_and_any_number_of_threads_and_warns_of_nothing():
    settings = [
        {"PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "true"},
        {"PYTHONHASHSEED": "2", "RAYON_NUM_THREADS": "7", "TOKENIZERS_PARALLELISM": "true"},
        {"PYTHONHASHSEED": "random"},
    ]
    fork = PROGRAM.index("import os"), PROGRAM.index("print(hashlib")
    runs = []
    for setting in settings:
        environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
        environment["PYTHONWARNINGS"] = "ignore"  # Python's own warning of forks where there are threads
        threads = "TOKENIZERS_PARALLELISM" in setting  # a person's choice, which a fork does not survive
        program = PROGRAM[: fork[0]] + PROGRAM[fork[1] :] if threads else PROGRAM
        runs.append(subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT), **setting},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ))  # fmt: skip
    results = [run.communicate(timeout=120) for run in runs]
    assert len(set(results)) == 1 and len(results[0][0]) == 65 and not results[0][1], results


def test_a_small_text_gives_a_smaller_vocabulary():
    assert tokenizers.train("bpe", ["ab ab ab"], 5000).vocab_size == 256 + 2 + 1  # "ab", " ab"
    assert tokenizers.train("bpe", [], 5000).vocab_size == 257


@pytest.mark.parametrize("vocab_size", [0, 256, -1, 2**40, 300.0])
def test_a_vocabulary_that_cannot_be_is_refused(vocab_size):
    with pytest.raises(ValueError, match=r"vocab_size is .*; expected 257 \(256 bytes and <\|endoftext\|>\) to"):
        tokenizers.train("bpe", ["a text"], vocab_size)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="of kind 'words' cannot be trained; expected char, byte or bpe"):
        tokenizers.train("words", ["a text"])
    with pytest.raises(ValueError, match=r"'\\ud800' at position 8 is half of a surrogate pair"):
        tokenizers.train("bpe", ["a text", " b\ud800"], 300)


# --------------------------------------------------------------------------------------------- bounded memory


def test_more_different_words_than_memory_keep_their_expected_counts(monkeypatch):
    monkeypatch.setattr(bpe_training, "_DIFFERENT", 5000)
    frequent = ["the", "of", "and", "to", "in"]
    text = ["".join(f" {word}" for word in frequent) + f" rare{i:06d} pair{i // 2:06d}" for i in range(20_000)]
    counts = bpe_training.count_words(text)
    assert sum(len(word) for word in counts) <= 5000
    assert all(abs(counts[f" {word}"] / 20_000 - 1) < 0.01 for word in frequent)
    for kind, places in (("rare", 20_000), ("pair", 10_000)):
        words = [word for word in counts if word.startswith(f" {kind}")]
        halves = Counter()  # of the text: where the words come from
        for word in words:
            halves[int(word[5:]) * 2 // places] += counts[word]
        assert all(abs(halves[half] / 10_000 - 1) < 0.3 for half in (0, 1)), kind


def test_a_long_text_is_merged_in_proportion_to_its_words(monkeypatch):
    monkeypatch.setattr(bpe_training, "_MERGED", 10_000)
    counts = Counter({" the": 10_000, "the": 40, "\n": 4000, " a.b": 1000, " once": 1, " twice": 2, "\t\t": 500})
    given = Counter()
    for piece in bpe_training._text_of(counts):
        words = bpe_training._WORD.findall(piece)
        assert len(set(words)) == 1
        given.update(words)
    scale = 10_000 / sum(n * len(word) for word, n in counts.items())
    assert all(abs(given[word] - n * scale) <= 1 for word, n in counts.items()), given


def test_words_stand_alone_in_the_text_that_is_merged_as_they_did_in_the_text():
    text = "line\n\n  two \t\n words\u3000here \x1c x\n"
    split = hf.pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    counts = bpe_training.count_words([text * 3])
    merged = [word for piece in bpe_training._text_of(counts) for word, _ in split(piece)]
    assert Counter(merged) == Counter(word for word, _ in split(text * 3))


MEMORY = """
import numpy as np, resource
from tiny_transformer_np import tokenizers
from tiny_transformer_np.tokenizers.bpe import hugging_face
hugging_face()
rng = np.random.default_rng(0)
def text(megabytes):
    for _ in range(megabytes):
        letters = rng.integers(97, 123, (100_000, 10), np.uint8)
        letters[:, 0] = 32
        yield letters.tobytes().decode()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tokenizers.train("bpe", text(16), 1000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.linux
def test_training_on_words_that_never_come_again_takes_little_memory():
    """The library alone takes 100 bytes for each byte of different words, here above 800 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and int(done.stdout) < 400, done
