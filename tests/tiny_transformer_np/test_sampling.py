"""Generation: each filter keeps what it should, in the right order, and writes into nothing; seeds repeat."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import numpy as np
import pytest
from small_models import make_model, make_trainer

from tiny_transformer_np import tokenizers
from tiny_transformer_np.sampling import __main__ as command
from tiny_transformer_np.sampling.generator import generate
from tiny_transformer_np.sampling.strategies import choose, keep_top_k, keep_top_p, probabilities
from tiny_transformer_np.tokenizers import ByteTokenizer, IdTokenizer

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2]))  # tokens by probability: 1, 3, 4, 0, 2


def rng(seed=0):
    return np.random.default_rng(seed)


def kept(logits):
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def drawn(n, *args, logits=LOGITS, **kwargs):
    """How often each token is chosen in n draws."""
    generator = rng(1)
    return np.bincount([choose(logits, generator, *args, **kwargs) for _ in range(n)], minlength=len(logits))


def test_probabilities_of_large_logits():
    np.testing.assert_allclose(probabilities(LOGITS + 1e4), np.exp(LOGITS), rtol=1e-9)
    np.testing.assert_array_equal(probabilities(np.array([1e4, -1e4, -np.inf], np.float32)), [1, 0, 0])


@pytest.mark.parametrize(("k", "tokens"), [(1, {1}), (2, {1, 3}), (4, {0, 1, 3, 4}), (5, {0, 1, 2, 3, 4}),
                                           (6, {0, 1, 2, 3, 4}), (10**9, {0, 1, 2, 3, 4})])  # fmt: skip
def test_top_k(k, tokens):
    filtered = keep_top_k(LOGITS, k)
    assert kept(filtered) == tokens
    np.testing.assert_array_equal(filtered[list(tokens)], LOGITS[list(tokens)])


@pytest.mark.parametrize(
    ("p", "tokens"),
    [(0.01, {1}), (0.39, {1}), (0.41, {1, 3}), (0.64, {1, 3}), (0.66, {1, 3, 4}), (0.9, {0, 1, 3, 4}),
     (0.96, {0, 1, 2, 3, 4}), (1.0, {0, 1, 2, 3, 4})],
)  # fmt: skip
def test_top_p_keeps_the_token_that_crosses(p, tokens):
    filtered = keep_top_p(LOGITS, p)
    assert kept(filtered) == tokens
    np.testing.assert_array_equal(filtered[list(tokens)], LOGITS[list(tokens)])


def test_top_p_is_of_what_top_k_left():
    """Of 0.4, 0.25, 0.2 the first has 47 %: p = 0.45 keeps it alone, though it is but 40 % of the whole."""
    assert drawn(300, top_k=3, top_p=0.45)[[0, 2, 3, 4]].sum() == 0
    both = drawn(300, top_p=0.45)
    assert both[3] > 0 and both[[0, 2, 4]].sum() == 0


@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 4, "top_p": 0.8},
                                      {"temperature": 0.5}, {"temperature": 0.0}])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_callers_logits_are_not_written_into(settings, dtype):
    logits = LOGITS.astype(dtype)
    logits.flags.writeable = False
    assert 0 <= choose(logits, rng(), **settings) < 5
    keep_top_k(logits, 2)[:] = 0.0  # a copy, even where nothing is filtered
    keep_top_k(logits, 5)[:] = 0.0
    keep_top_p(logits, 1.0)[:] = 0.0
    np.testing.assert_array_equal(logits, LOGITS.astype(dtype))


def test_temperature_zero_is_greedy_and_low_ones_come_near():
    assert drawn(20, temperature=0.0).tolist() == [0, 20, 0, 0, 0]
    assert drawn(20, temperature=1e-3).tolist() == [0, 20, 0, 0, 0]


@pytest.mark.parametrize("temperature", [1e-300, 1e-320])
def test_a_temperature_of_nearly_zero_does_not_overflow(temperature):
    assert drawn(5, temperature=temperature).tolist() == [0, 5, 0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.1, 0.4, 0.05, 0.25, 0.2]),
        ({"temperature": 0.5}, np.array([0.01, 0.16, 0.0025, 0.0625, 0.04]) / 0.275),
        ({"temperature": np.inf}, [0.2] * 5),
        ({"top_k": 3}, np.array([0, 0.4, 0, 0.25, 0.2]) / 0.85),
        ({"top_p": 0.7}, np.array([0, 0.4, 0, 0.25, 0.2]) / 0.85),
        ({"temperature": 0.5, "top_k": 4, "top_p": 0.75}, np.array([0, 0.16, 0, 0.0625, 0]) / 0.2225),
    ],
)
def test_frequencies_are_the_probabilities(settings, expected):
    n, expected = 4000, np.asarray(expected)
    counts = drawn(n, **settings)
    assert counts[expected == 0].sum() == 0
    likely = expected > 0
    chi_square = ((counts - n * expected)[likely] ** 2 / (n * expected)[likely]).sum()
    assert chi_square < 23.5  # 0.01 % of four degrees of freedom


@pytest.mark.parametrize("settings", [{"top_k": 0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5},
                                      {"top_p": np.nan}, {"temperature": -1.0}, {"temperature": np.nan}])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"^{name} is .*; expected"):
        choose(LOGITS, rng(), **settings)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.5}])
def test_logits_that_are_not_finite_are_refused(bad, settings):
    logits = LOGITS.copy()
    logits[2] = bad
    with pytest.raises(ValueError, match=r"the largest logit is (nan|inf); expected a finite number"):
        choose(logits, rng(), **settings)
    with pytest.raises(ValueError, match="the largest logit is -inf"):
        choose(np.full(5, -np.inf), rng(), **settings)
    masked = np.where(np.arange(5) == 1, LOGITS, -np.inf)  # some may be -inf: they are never chosen
    assert choose(masked, rng(), **settings) == 1


# --------------------------------------------------------------------------------------------- generate


def test_a_model_whose_logits_are_not_finite_generates_nothing():
    model = make_model()
    model.blocks[0].attn.qkv.weight.data[...] = 1e30 * rng().standard_normal(model.blocks[0].attn.qkv.weight.shape)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="the model's logits are not finite"):
        next(generate(model, [1, 2, 3], 5, rng()))


def test_the_same_seed_gives_the_same_text():
    model = make_model(vocab_size=50)
    texts = [list(generate(model, [1, 2], 30, rng(seed))) for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]
    assert all(0 <= token < 50 for text in texts for token in text)


def test_greedy_is_the_likeliest_token_of_the_whole_model_every_time():
    """Also past the context: then the model sees the last block_size tokens."""
    model = make_model(dtype=np.float64, tie_weights=False)
    rough = rng(2)
    for parameter in model.parameters():  # the first weights always repeat one token
        parameter.data += rough.standard_normal(parameter.shape) * (parameter.ndim == 2)
    ids = [3, 1, 4]
    new = list(generate(model, ids, 3 * model.config.block_size, rng(), temperature=0.0))
    assert len(set(new)) > 2
    for token in new:
        assert token == model(np.array([ids[-8:]])).data[0, -1].argmax()
        ids.append(token)


def test_a_prompt_longer_than_the_context():
    model = make_model()
    long = list(range(10)) * 2
    tokens = [list(generate(model, prompt, 5, rng(), temperature=0.0)) for prompt in (long, long[-8:])]
    assert tokens[0] == tokens[1]


def test_generating_uses_no_dropout_and_records_nothing():
    model = make_model(dropout=0.5)
    seen, forward = [], model.forward
    model.forward = lambda *args, **kwargs: seen.append(forward(*args, **kwargs)) or seen[-1]
    list(generate(model, [1], 3, rng()))
    assert len(seen) == 3 and not any(logits.requires_grad for logits in seen)
    first = list(generate(model, [1], 20, rng(), temperature=0.0))
    assert first == list(generate(model, [1], 20, rng(), temperature=0.0))


def test_an_empty_prompt_is_refused_and_no_tokens_are_none():
    with pytest.raises(ValueError, match="prompt is empty"):
        next(generate(make_model(), [], 5, rng()))
    assert list(generate(make_model(), [1], 0, rng())) == []


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """sample(text, *flags) -> (exit status, stdout, stderr) of the command, on a model of `text`; made: a tokenizer."""
    folder = tmp_path_factory.mktemp("models")

    def run(text, *flags, made=None):
        path = folder / f"{hash(text)}-{made.kind if made else ''}.safetensors"
        if not path.exists():
            make_trainer(text=text, made=made).save_checkpoint(path)
        out, errors = io.StringIO(), io.StringIO()
        argv = ["sampling", str(path), "--kernels", "reference", "--threads", "1", "--tokens", "3", *flags]
        with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(errors):
            try:
                status = command.main()
            except SystemExit as left:
                status = left.code
        return status, out.getvalue(), errors.getvalue()

    return run


@pytest.mark.parametrize(
    ("text", "prompt"),
    [("-a b\n-h --tokens\n" * 20, "\n"), ("a b" * 50, " "), ("xyz" * 50, "x"), ("\u0416\u0442" * 60, "\u0416")],
)
def test_the_default_prompt_is_one_that_the_vocabulary_has(sample, text, prompt):
    status, out, errors = sample(text)
    assert not status and out.startswith(prompt) and len(out) == len(prompt) + 4, errors


SENTENCE = "naïve \U0001f468\u200d\U0001f469 日本語, it's é\n"
MADE = [ByteTokenizer(), tokenizers.train("bpe", [SENTENCE * 3], 270)]


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.kind)
def test_a_text_is_shown_in_whole_characters_as_the_model_goes_on(sample, monkeypatch, made):
    ids = made.encode(SENTENCE).tolist()

    class Shown(io.StringIO):
        def write(self, text):
            assert "\ufffd" not in text
            shown.append(text)
            return super().write(text)

    for n in range(len(ids) + 1):  # ends after any token, half of a character or not
        shown = []
        monkeypatch.setattr(command, "generate", lambda *args, n=n: iter(ids[:n]))
        monkeypatch.setattr(io, "StringIO", Shown)
        status, out, errors = sample(SENTENCE * 20, "--prompt", "日本 \U0001f600", made=made)
        assert not status, errors
        whole = made.decode(ids[:n]).rstrip("\ufffd")
        assert out == f"日本 \U0001f600{whole}\n" and len(shown) == 2 + n and shown[0] == "日本 \U0001f600"


@pytest.mark.parametrize(
    ("made", "flags", "begins"),
    [(MADE[0], [], "\n"), (MADE[1], [], "\n"), (MADE[1], ["--prompt", "<|endoftext|>"], "<|endoftext|>"),
     (IdTokenizer(9), [], "0 "), (IdTokenizer(9), ["--prompt", "3, 4"], "3 4 ")],
)  # fmt: skip
def test_every_kind_of_tokenizer_has_prompts(sample, made, flags, begins):
    text = "1 2 3 4 " * 20 if made.kind == "ids" else SENTENCE * 20
    status, out, errors = sample(text, *flags, made=made)
    assert not status and out.startswith(begins), (out, errors)


@pytest.mark.parametrize(
    ("made", "prompt", "words"),
    [(IdTokenizer(9), "hello", "--prompt: 'hello' at position 0 is not an id; expected integers from 0 to 8"),
     (IdTokenizer(9), " ", "--prompt is empty"), (MADE[0], "a\ud800", r"--prompt: '\ud800' at position 1 is half")],
)  # fmt: skip
def test_prompts_that_are_no_text_of_the_tokenizer_are_one_line(sample, made, prompt, words):
    status, _, errors = sample("1 2 3 4 " * 20, "--prompt", prompt, made=made)
    assert status == 2 and errors.count("\n") == 1 and words in errors, errors


@pytest.mark.parametrize("prompt", ["-", "-a", "-h", "--", "--tokens", "- b", "--tokens -h"])
def test_a_prompt_may_begin_with_a_dash(sample, prompt):
    text = "-a b\n-h --tokens\n" * 20
    spellings = [("--prompt", prompt), (f"--prompt={prompt}",), ("--seed", "1337", "--prompt", prompt, "--top-k", "90")]
    results = {sample(text, *flags) for flags in spellings}
    assert len(results) == 1, results
    status, out, errors = results.pop()
    assert not status and out.startswith(prompt), errors


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--prompt", "q"], "--prompt: character 'q' at position 0 is not among the 12 known ones"),
        (["--prompt", "b" + "-" * 10**6 + "\x1b"], r"'\x1b' at position 1000001"),
        (["--prompt", ""], "--prompt is empty"),
        (["--prompt"], "argument --prompt: expected one argument"),
        (["--seed", str(2**64)], "--seed is 18446744073709551616; expected less than 2**64"),
        (["--tokens", "9" * 5000], "--tokens"),
        (["--threads", "9" * 30], "threads is 9"),
        (["--temperature", "nan"], "must not be negative"),
        (["--max_new_tokens=10"], "unknown argument --max_new_tokens=10; it is called --tokens here; see --help"),
        (["--num_samples", "3"], "there is no such setting: one text a call, another one with another --seed; see"),
        (["once", "upon"], "unknown argument once; a text to go on from is given as --prompt TEXT; see --help"),
        (["--temprature", "3"], "unknown argument --temprature; did you mean '--temperature'?; see --help"),
    ],
)
def test_flags_that_cannot_be_are_one_line(sample, flags, words):
    status, _, errors = sample("-a b\n-h --tokens\n" * 20, *flags)
    assert status == 2 and errors.count("\n") == 1 and words in errors and len(errors) < 700, errors
