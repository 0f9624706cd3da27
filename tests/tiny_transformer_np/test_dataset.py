"""TextDataset: targets one ahead, no window lost or beyond the end, each epoch a permutation; and reading texts."""

import hashlib

import numpy as np
import pytest

from tiny_transformer_np import CharTokenizer, ConfigError, TrainingConfig, tokenizers
from tiny_transformer_np.corpus.tokens import Tokens
from tiny_transformer_np.tokenizers import ByteTokenizer
from tiny_transformer_np.training import TextDataset
from tiny_transformer_np.training.build_trainer import require_enough
from tiny_transformer_np.training.data import load_data
from tiny_transformer_np.training.dataset import IGNORE_INDEX, python_manual

TOKENIZER = CharTokenizer("abcdefghij")


def numbered(n, seq_len, stride=0):
    """Token i is the number i, so that a window shows where it lies."""
    return TextDataset(np.arange(n), TOKENIZER, seq_len, stride)


@pytest.mark.parametrize("stride", [0, 1, 3, 4, 7])
@pytest.mark.parametrize("n", [5, 6, 8, 9, 10, 41, 44, 45])
def test_windows_and_targets(n, stride):
    """Targets are the inputs one later; window i starts at i * stride; all that fit are there, and none overruns."""
    data = numbered(n, 4, stride)
    starts = [s for s in range(0, n, stride or 4) if s + 4 <= n - 1]  # the last target is token n - 1 at most
    assert len(data) == len(starts)
    for i, start in enumerate(starts):
        inputs, targets = data[i]
        np.testing.assert_array_equal(inputs, np.arange(start, start + 4))
        np.testing.assert_array_equal(targets, np.arange(start + 1, start + 5))


def test_the_last_token_is_a_target_when_it_fits():
    assert numbered(41, 4)[9][1][-1] == 40
    assert numbered(12, 4, stride=1)[7][1][-1] == 11


def test_an_array_of_indices_gives_a_batch():
    inputs, targets = numbered(41, 4)[np.array([[0, 9], [3, 3]])]
    assert inputs.shape == targets.shape == (2, 2, 4)
    np.testing.assert_array_equal(inputs[..., 0], [[0, 36], [12, 12]])


@pytest.mark.parametrize("index", [-1, 10, [0, 10]])
def test_windows_outside_are_refused(index):
    with pytest.raises(IndexError, match=r"outside 0\.\.9"):
        numbered(41, 4)[index]


@pytest.mark.parametrize("n", [0, 1, 4])
def test_too_short_a_text_is_refused(n):
    with pytest.raises(ConfigError, match=rf"^the text has {n} tokens.*need 5;"):
        numbered(n, 4)
    assert len(numbered(5, 4)) == 1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("tokenizer", [TOKENIZER, ByteTokenizer(), tokenizers.train("bpe", ["abcjj" * 9], 260)],
                         ids=lambda tokenizer: tokenizer.kind)  # fmt: skip
def test_a_file_is_read_and_encoded(tokenizer, tmp_path, cache):
    """A document ends with the end-of-text token, where there is one."""
    path = tmp_path / "text.txt"
    path.write_text("abcjj" * 20, encoding="utf-8")
    end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    for given in (path, str(path)):
        data = TextDataset(given, tokenizer, 2)
        np.testing.assert_array_equal(data.tokens[:], [*tokenizer.encode("abcjj" * 20), *end])
        assert len(data.batch(0, 3, seed=1)[0]) == 3


@pytest.mark.parametrize("content", [b"", b"abc\xff\xfe", b"caf\xe9", b"abcx", None])
def test_unusable_files_are_refused_in_one_line(tmp_path, content, cache):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        TextDataset(path, TOKENIZER, 1)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize(("n_windows", "batch_size"), [(10, 5), (10, 3), (7, 20), (1, 4), (129, 16)])
def test_each_epoch_visits_every_window_once(n_windows, batch_size):
    """Also where a batch crosses from one epoch into the next, or holds several."""
    data = numbered(4 * n_windows + 1, 4)
    assert len(data) == n_windows
    n_batches = -(-3 * n_windows // batch_size)
    starts = np.concatenate([data.batch(i, batch_size, seed=1)[0][:, 0] // 4 for i in range(n_batches)])
    for epoch in range(3):
        visited = starts[epoch * n_windows : (epoch + 1) * n_windows]
        np.testing.assert_array_equal(np.sort(visited), np.arange(n_windows))


def test_a_batch_is_a_pure_function_of_its_number():
    data = numbered(401, 4)
    forwards = [data.batch(i, 8, seed=1) for i in range(30)]
    again = numbered(401, 4)
    for i in reversed(range(30)):
        for a, b in zip(forwards[i], again.batch(i, 8, seed=1), strict=True):
            np.testing.assert_array_equal(a, b)
    inputs, targets = forwards[0]
    np.testing.assert_array_equal(targets, inputs + 1)


def test_epochs_and_seeds_have_their_own_order():
    data = numbered(401, 4)

    def order(epoch, seed):
        return data.batch(epoch, 100, seed)[0][:, 0] // 4

    orders = [order(0, 1), order(1, 1), order(0, 2), order(0, 1 + 2**32), np.arange(100)]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert np.count_nonzero(a == b) < 10  # two random orders agree in about one place


# -------------------------------------------------------------------------------- blocks, for evaluation


@pytest.mark.parametrize("n", [5, 8, 9, 10, 13, 40, 41])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_blocks_have_each_target_exactly_once(n, batch_size):
    inputs, targets = map(np.concatenate, zip(*numbered(n, 4).blocks(batch_size), strict=True))
    counted = targets != IGNORE_INDEX
    np.testing.assert_array_equal(targets[counted], np.arange(1, n))
    np.testing.assert_array_equal(inputs[counted], np.arange(n - 1))
    assert np.count_nonzero(~counted) < 4  # padding in the last window only
    assert counted.reshape(-1)[: n - 1].all()
    assert ((inputs >= 0) & (inputs < n)).all()  # padding is a token that exists


def test_the_last_batch_of_blocks_is_shorter():
    shapes = [inputs.shape for inputs, _ in numbered(42, 4).blocks(4)]
    assert shapes == [(4, 4), (4, 4), (3, 4)]


@pytest.mark.parametrize("limit", [1, 7, 12, 39, 40, 1000])
def test_a_limited_evaluation_takes_the_same_windows_whatever_the_batch_size(limit):
    data = numbered(41, 4)  # 40 targets in 10 windows
    taken = [np.concatenate([targets for _, targets in data.blocks(n, limit)]) for n in (1, 3, 100)]
    for targets in taken:
        np.testing.assert_array_equal(targets, taken[0])
    n_windows = len(taken[0])
    assert data.n_targets(limit) == np.count_nonzero(taken[0] != IGNORE_INDEX) == 4 * n_windows
    assert n_windows == (10 if limit >= 40 else max(1, limit // 4))
    if n_windows == 3:
        np.testing.assert_array_equal(taken[0][:, 0], [1, 13, 25])  # spread evenly


# -------------------------------------------------------------------------------- documents by themselves


LENGTHS = {
    "one": [50],
    "short ones": [3, 1, 2, 1, 1, 9, 4, 5, 6, 1],
    "only the last has two tokens": [1] * 130 + [2],
    "empty ones at both ends": [1, 1, 40, 1],
    "more than a group": np.random.default_rng(0).integers(1, 12, 300).tolist(),
}


def by_document(lengths, stride=0, ends=None):
    """Numbered tokens in documents of these lengths."""
    tokens = Tokens(np.arange(sum(lengths)), np.cumsum(lengths) if ends is None else ends)
    return TextDataset(tokens, TOKENIZER, 4, stride, cross_documents=False)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("stride", [0, 1, 3, 7])
def test_no_target_is_in_another_document_than_its_input(lengths, stride):
    """Windows begin anew in each document; inputs and targets follow one another in it, and then comes padding."""
    data = by_document(lengths, stride)
    ends = np.cumsum(lengths)
    starts = []
    for inputs, targets in zip(*data[np.arange(len(data))], strict=True):
        n = np.count_nonzero(targets != IGNORE_INDEX)
        assert n > 0 and (targets[n:] == IGNORE_INDEX).all() and (inputs[n:] == 0).all()
        np.testing.assert_array_equal(inputs[:n], inputs[0] + np.arange(n))
        np.testing.assert_array_equal(targets[:n], inputs[:n] + 1)
        assert np.searchsorted(ends, inputs[0], "right") == np.searchsorted(ends, targets[n - 1], "right")
        starts.append(inputs[0])
    begin, expected = 0, []
    for end in ends:
        for start in range(begin, end - 1, stride or 4):
            expected.append(start)
            if start + 4 >= end - 1:  # its last target is the document's
                break
        begin = end
    assert starts == expected


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_every_target_inside_a_document_is_evaluated_and_trained_on_once(lengths):
    """All tokens but the first of each document; the last is one, where the end-of-text token stands."""
    data = by_document(lengths)
    expected = np.setdiff1d(np.arange(sum(lengths)), np.cumsum([0, *lengths]))
    epoch = [data.batch(i, 1, seed=3)[1] for i in range(len(data))]
    for batches in (epoch, [targets for _, targets in data.blocks(7)]):
        targets = np.concatenate(batches)
        np.testing.assert_array_equal(np.sort(targets[targets != IGNORE_INDEX]), expected)
    assert data.n_targets() == len(expected)


def test_what_stands_behind_the_last_border_is_a_document():
    data = by_document([5, 4], ends=[5])
    np.testing.assert_array_equal(data[np.arange(2)][0], [[0, 1, 2, 3], [5, 6, 7, 0]])
    assert len(TextDataset(np.arange(9), TOKENIZER, 4, cross_documents=False)) == 2  # an array is one document


@pytest.mark.parametrize("limit", [5, 60, 300])
def test_a_limited_evaluation_takes_about_so_many_targets_of_short_documents(limit):
    data = by_document(LENGTHS["more than a group"])
    taken = [np.concatenate([targets for _, targets in data.blocks(n, limit)]) for n in (1, 64)]
    np.testing.assert_array_equal(*taken)
    assert data.n_targets(limit) == np.count_nonzero(taken[0] != IGNORE_INDEX) == pytest.approx(limit, rel=0.3)


def test_documents_without_a_second_token_are_refused():
    with pytest.raises(ConfigError, match="no document has a second token"):
        by_document([1, 1, 1])


def test_documents_cost_half_a_byte_each():
    """So the borders of a large corpus may stay in their file."""
    windows = by_document([3] * 64_000)._windows
    assert sum(part.nbytes for part in vars(windows).values() if isinstance(part, np.ndarray)) <= 64_000 / 2 + 16


# ----------------------------------------------------------------------------------------------- texts


def loaded(data, val_data=()):
    """What `load_data` makes of these files, as text again."""
    found = load_data(config_of(data, val_data))
    return found.tokenizer.decode(found.train[:]), found.tokenizer.decode(found.val[:])


def config_of(data, val_data=(), seq_len=8):
    return TrainingConfig(data=tuple(map(str, data)), val_data=tuple(map(str, val_data)), seq_len=seq_len)


def test_the_tail_validates_by_default(tmp_path):
    """Training and validation text do not overlap and together are the whole."""
    (tmp_path / "a").write_text("abcdefg\n", encoding="utf-8")
    (tmp_path / "b").write_text("0123456789ä", encoding="utf-8")
    train, val = loaded([tmp_path / "a", tmp_path / "b"])
    assert train + val == "abcdefg\n\n0123456789ä"
    assert len(val) == 2
    assert loaded([tmp_path / "a"], [tmp_path / "b"]) == ("abcdefg\n", "0123456789ä")


def test_the_python_manual_is_there():
    assert len(python_manual()) > 400_000
    train, val = loaded((), ())
    assert train + val == python_manual()
    assert len(val) == pytest.approx(0.1 * len(python_manual()), abs=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_batches_are_int64_whatever_the_tokens_are(dtype):
    """The digest is that of int64 ids, as earlier versions made it."""
    tokens = np.arange(200, dtype=dtype)
    data = TextDataset(tokens, TOKENIZER, 8)
    assert data.tokens is tokens
    assert data.digest() == data.digest() == hashlib.sha256(np.arange(200).tobytes()).hexdigest()
    for array in (*data.batch(0, 4, seed=1), *data[0], *next(data.blocks(2))):
        assert array.dtype == np.int64


def test_the_digest_tells_texts_apart():
    assert numbered(40, 4).digest() == numbered(40, 8).digest()
    assert numbered(40, 4).digest() != numbered(41, 4).digest()
    assert TextDataset(np.arange(40)[::-1], TOKENIZER, 4).digest() != numbered(40, 4).digest()


@pytest.mark.parametrize("seq_len", [1, 7, 8, 16, 99])
def test_a_text_that_is_too_short_is_told_how_much_would_do(seq_len, tmp_path):
    enough, less = (text_of(tmp_path, 10 * seq_len + n) for n in (1, 0))
    with pytest.raises(ConfigError, match=rf"at least {10 * seq_len + 1} tokens in all"):
        require_enough_of(config_of([less], seq_len=seq_len))
    require_enough_of(config_of([enough], seq_len=seq_len))
    long, short = (text_of(tmp_path, seq_len + n) for n in (1, 0))
    with pytest.raises(ConfigError, match=rf"validation \(--val-data\) has {seq_len} tokens.* need {seq_len + 1}"):
        require_enough_of(config_of([long], [short], seq_len))
    with pytest.raises(ConfigError, match=rf"training \(--data\) has {seq_len} tokens"):
        require_enough_of(config_of([short], [long], seq_len))


def text_of(tmp_path, n):
    """A file of n characters."""
    (tmp_path / f"{n}.txt").write_text("ab" * (n // 2) + "a" * (n % 2))
    return tmp_path / f"{n}.txt"


def require_enough_of(config):
    require_enough(load_data(config), config)
