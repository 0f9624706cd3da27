"""Checkpoints whose checksum fits and whose contents are wrong: refused in one line, and nothing has changed."""

import copy
import itertools

import numpy as np
import pytest
from small_models import TEXT, make_trainer, model_config
from test_checkpoint import same_bits, state_of

from tiny_transformer_np import CharTokenizer, ConfigError, TransformerConfig, TransformerLM
from tiny_transformer_np.model import FIRST_POSITIONS, parameter_shapes
from tiny_transformer_np.training import checkpoint
from tiny_transformer_np.training.run_folder import Run

HUGE = 10**9  # layers: building them would never end
OBJECTS = ("model", "training", "tokenizer", "data", "adamw_steps", "versions")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """(trainer, arrays, meta) of a checkpoint made after two steps."""
    trainer = make_trainer(model={"n_layer": 1})
    trainer.train_step()
    trainer.train_step()
    path = tmp_path_factory.mktemp("sound") / "c"
    trainer.save_checkpoint(path)
    return trainer, *checkpoint.load(path)


def refusal(sound, path, change):
    """What `change(arrays, meta)` of a sound checkpoint is refused with, by all that read one, and nothing changes."""
    trainer, arrays, meta = sound
    arrays, meta = dict(arrays), copy.deepcopy(meta)
    change(arrays, meta)
    checkpoint.save(path, arrays, meta)  # with the right checksum
    before = state_of(trainer)
    messages = set()
    for read in (checkpoint.load, checkpoint.load_model, trainer.load_checkpoint):
        with pytest.raises(ConfigError) as caught:
            read(path)
        messages.add(str(caught.value))
    with pytest.raises(ConfigError):
        trainer.restore(path, arrays, meta)
    assert same_bits(state_of(trainer), before)
    (message,) = messages
    assert str(path) in message and len(message.splitlines()) == 1 and len(message) < 500
    return message


def put(*path):
    """A change of meta: the value at the end of `path` goes where the keys before it lead."""

    def change(arrays, meta):
        *keys, last, value = path
        for key in keys:
            meta = meta[key]
        meta[last] = value

    return change


def drop(*path):
    def change(arrays, meta):
        *keys, last = path
        for key in keys:
            meta = meta[key]
        del meta[last]

    return change


W, M, V = ("model.ln_final.weight", "adamw.m.ln_final.weight", "adamw.v.ln_final.weight")


def array(name, function):
    def change(arrays, meta):
        arrays[name] = function(arrays[name].copy())

    return change


def filled(value):
    def change(x):
        x.reshape(-1)[-1] = value
        return x

    return change


CASES = [
    *((put("step", x), "its step is") for x in (-1, 1.0, True, None, "2", [2], 1 << 70)),
    *((put("best_val_loss", x), "best_val_loss is") for x in ("1", True, [], {}, 10**400)),
    *((put(key, x), "expected an object") for key in OBJECTS for x in (None, [], "x")),
    *((drop(key), f"no {key}") for key in ("step", *OBJECTS)),
    (put("model", "n_layer", HUGE), "no array model.blocks.1.ln1.weight"),
    (put("model", "n_embd", 1 << 20), "has shape"),
    (put("model", "vocab_size", 3), "expected vocab_size 3"),
    (put("model", "n_layer", 1.0), "n_layer is 1.0; expected int"),
    (put("model", "n_layer", True), "n_layer is True; expected int"),
    (put("model", "n_head", 3), "not divisible by n_head 3"),
    (put("model", "dropout", "0"), "dropout is '0'; expected float"),
    (put("model", "positions", "rotary"), "expected one of learned, sinusoidal"),
    (put("model", "x" * 10**6, 1), "unknown 'xxx"),
    (put("training", "batch_size", 0), "batch_size is 0"),
    (put("training", "betas", [0.9]), "expected two numbers"),
    (put("tokenizer", "kind", "words"), "it is of kind 'words'; expected one of char, byte, bpe, ids; another version"),
    (put("tokenizer", "kind", ["char"]), "it is of kind ['char']; expected one of char, byte, bpe, ids"),
    (put("tokenizer", "kind", "byte"), "it has the keys ['kind', 'vocabulary']; expected 'kind' alone"),
    (put("tokenizer", {"kind": "byte"}), "its tokenizer has 257 tokens; expected vocab_size"),
    (put("tokenizer", {"kind": "ids", "vocab_size": True}), "a vocabulary has True ids; expected an integer"),
    (put("tokenizer", {"kind": "ids", "vocab_size": 2**32}), "its tokenizer has 4294967296 tokens; expected"),
    (put("tokenizer", {"kind": "ids", "vocab_size": 10**400}), "ids; expected an integer from 1 to 4294967296"),
    (put("tokenizer", {"model": 3}), "its model is 3; expected a byte-level BPE"),
    (put("tokenizer", "kind", "bpe"), "it has the key 'kind', 'bpe'; expected a byte-level BPE"),
    (put("tokenizer", "vocabulary", 5), "vocabulary is 5; expected a text"),
    (put("tokenizer", "vocabulary", ""), "a vocabulary needs at least one character"),
    (put("tokenizer", "vocabulary", "y" * len(set(TEXT))), "each only once"),
    (put("tokenizer", "vocabulary", "".join(sorted(set(TEXT)))[:-1] + "\ud800"), "half of a surrogate pair"),
    (put("tokenizer", "merges", []), "it has the keys ['kind', 'merges', 'vocabulary']; expected 'kind'"),
    (put("data", "train", 3), "expected a sha256"),
    (put("data", {}), "expected 'train' and 'val'"),
    (put("data", "plain_text", "no"), "its data's plain_text is 'no'"),
    (put("data", "corpus", 3), "its data's corpus is 3; expected a sha256"),
    (put("adamw_steps", "ln_final.weight", 3), "integer from 0 to 2"),
    (put("adamw_steps", "ln_final.weight", -1), "integer from 0 to 2"),
    (put("adamw_steps", "ln_final.weight", 2.0), "integer from 0 to 2"),
    (put("adamw_steps", "other", 2), "do not fit the parameters: 'other'"),
    (drop("adamw_steps", "ln_final.weight"), "do not fit the parameters"),
    (put("format", 2), "has format 2; this version reads format 1"),
    (put("format", True), "has format True"),
    (put("later", 1), "unknown 'later'"),
    *((put("versions", "python", x), "its version of 'python' is") for x in (3, "3\n", "\x1b[2J", "3" * 999)),
    (lambda arrays, meta: arrays.pop(V), f"no array {V}"),
    (lambda arrays, meta: arrays.clear(), "no array model.token_embedding.weight"),
    (lambda arrays, meta: arrays.update(extra=np.zeros(2)), "an array 'extra' that its config does not need"),
    *((array(name, lambda x: x[:-1]), f"{name} has shape") for name in (W, M, V)),
    *((array(name, lambda x: x[None]), f"{name} has shape") for name in (W, M, V)),
    *((array(W, lambda x, dtype=dtype: x.astype(dtype)), f"{W} holds") for dtype in ("f8", "f2", "i4", "?", "u8")),
    *((array(name, filled(x)), f"{name} is not finite") for name in (W, M, V) for x in (np.nan, np.inf, -np.inf)),
    (array(V, filled(-1e-9)), f"{V} is negative"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), CASES, ids=[f"{i} {said[-25:]}" for i, (_, said) in enumerate(CASES)])
def test_wrong_contents_are_refused(sound, tmp_path, change, said):
    assert said in refusal(sound, tmp_path / "c", change)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "[" * 100_000])
def test_json_that_is_none_is_refused(sound, tmp_path, monkeypatch, number):
    """What Python's reader would take: the checksum is left out, for it could not be formed."""
    _, arrays, meta = sound
    dumps = checkpoint.json.dumps
    monkeypatch.setattr(
        checkpoint.json, "dumps", lambda x, **how: dumps(x, **how).replace('"step": 2', f'"step": {number}')
    )
    checkpoint.save(tmp_path / "c", arrays, meta)
    with pytest.raises(ConfigError, match=r"c is damaged \(.{,200}\); use another one"):
        checkpoint.load(tmp_path / "c")


def test_the_version_to_use_is_named(sound, tmp_path):
    def newer(arrays, meta):
        meta["versions"]["tiny_transformer_np"] = "7.1.0"
        meta["model"]["experts"] = 8

    message = refusal(sound, tmp_path / "c", newer)
    assert "model settings have an unknown 'experts'; another version wrote it: use version 7.1.0" in message


def test_settings_that_are_newer_than_the_checkpoint_have_their_defaults(sound, tmp_path):
    trainer, arrays, meta = sound
    meta = copy.deepcopy(meta)
    del meta["model"]["gelu"], meta["training"]["verify_every"], meta["versions"]["tiny_transformer_np"]
    checkpoint.save(tmp_path / "c", arrays, meta)
    before = state_of(trainer)
    trainer.load_checkpoint(tmp_path / "c")
    assert same_bits(state_of(trainer), before)
    assert checkpoint.load_model(tmp_path / "c")[0].config.gelu == "tanh"


def test_a_checkpoint_of_double_precision_is_loaded_in_it_and_not_into_single(tmp_path):
    make_trainer(dtype=np.float64).save_checkpoint(tmp_path / "c")
    model, _, _ = checkpoint.load_model(tmp_path / "c")
    assert {p.dtype for p in model.parameters()} == {np.dtype("float64")}
    with pytest.raises(ConfigError, match=r"token_embedding.weight float64 \(here float32\)"):
        make_trainer().load_checkpoint(tmp_path / "c")
    make_trainer(dtype=np.float64).load_checkpoint(tmp_path / "c")


def test_the_shapes_are_those_of_the_model():
    """For every combination of what decides about names and shapes."""
    choices = itertools.product((True, False), (True, False), ("learned", "sinusoidal"), (1, 3), (2, 6))
    for bias, tie_weights, positions, n_layer, n_embd in choices:
        config = model_config(bias=bias, tie_weights=tie_weights, positions=positions, n_layer=n_layer, n_embd=n_embd)
        model = TransformerLM(config)
        assert list(parameter_shapes(config)) == [(name, p.shape) for name, p in model.named_parameters()]
    assert next(parameter_shapes(TransformerConfig(n_layer=HUGE)))[0] == "token_embedding.weight"  # at once


def test_a_context_of_billions_costs_nothing_until_it_is_used(tmp_path):
    """No array has its size where positions are sinusoids."""
    trainer = make_trainer(model={"positions": "sinusoidal"})
    trainer.save_checkpoint(tmp_path / "c")
    arrays, meta = checkpoint.load(tmp_path / "c")
    meta["model"]["block_size"] = 2**31 - 1
    checkpoint.save(tmp_path / "c", arrays, meta)
    model, _, _ = checkpoint.load_model(tmp_path / "c")
    assert model.sinusoids.shape == (FIRST_POSITIONS, 8)
    first = model.sinusoids
    model(np.zeros((1, FIRST_POSITIONS + 1), int), last_only=True)
    np.testing.assert_array_equal(model.sinusoids[:FIRST_POSITIONS], first)
    ids = np.arange(8)[None]
    np.testing.assert_array_equal(model(ids).data, trainer.model.eval()(ids).data)


# ------------------------------------------------------------------------------------ not finite


def spoiled(trainer, value):
    weight = trainer.model.blocks[0].attn.qkv.weight.data
    weight[...] = value * np.random.default_rng(0).standard_normal(weight.shape)
    return trainer


@pytest.mark.parametrize(("value", "said"), [(np.nan, "blocks.0.attn.qkv.weight is not finite"),
                                             (np.inf, "blocks.0.attn.qkv.weight is not finite"),
                                             (1e30, "the logits are not finite")])  # fmt: skip
def test_a_state_that_is_not_finite_is_never_saved(tmp_path, value, said):
    trainer = make_trainer()
    trainer.save_checkpoint(tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(FloatingPointError, match=f"step 0 is not saved: .*{said}; try a lower learning_rate"):
        spoiled(trainer, value).save_checkpoint(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == before


def test_logits_that_are_not_finite_are_refused_when_a_model_is_loaded(tmp_path):
    spoiled(make_trainer(), 1e30).save_checkpoint(tmp_path / "c", check_logits=False)  # the state before a bad step
    checkpoint.load(tmp_path / "c")
    with pytest.raises(ConfigError, match="c cannot be used: its logits are not finite; use an earlier one"):
        checkpoint.load_model(tmp_path / "c")


def test_weights_that_went_bad_unnoticed_are_not_kept_for_a_post_mortem(tmp_path):
    trainer = spoiled(make_trainer(run=Run(tmp_path / "run")), np.inf)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as caught:
        trainer.train_step()
    assert "step 0 is not saved: model.blocks.0.attn.qkv.weight is not finite" in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("vocabulary", ["", "aba", "a\ud800", "\udfff"])
def test_no_tokenizer_is_made_of_an_unsound_vocabulary(vocabulary):
    with pytest.raises(ValueError, match="a vocabulary"):
        CharTokenizer(vocabulary)
