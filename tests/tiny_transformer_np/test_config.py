"""The configurations: every value that makes no sense, and every slip in a TOML file, is refused in one line."""

import dataclasses
import math
from pathlib import Path

import pytest

from tiny_transformer_np import ConfigError, TrainingConfig, TransformerConfig
from tiny_transformer_np.config import CONFIGS, find_config, load_toml

ROOT = Path(__file__).resolve().parents[2]

BAD_MODEL = [
    *[(name, value) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd") for value in (0, -1)],
    *[("dropout", value) for value in (-0.1, 1.0, 1.5, math.nan, math.inf)],
    ("n_head", 3),
    ("positions", "rotary"),
    ("gelu", "fast"),
]
POSITIVE = ("seq_len", "batch_size", "grad_accumulation_steps", "epochs", "log_interval", "eval_interval",
            "save_interval", "learning_rate", "eps")  # fmt: skip
NOT_NEGATIVE = ("stride", "max_steps", "warmup_steps", "weight_decay", "grad_clip", "min_lr", "sample_tokens", "seed",
                "threads")  # fmt: skip
BAD_TRAINING = [
    *[(name, value) for name in POSITIVE for value in (0, -1)],
    *[(name, -1) for name in NOT_NEGATIVE],
    *[(name, math.nan) for name in ("learning_rate", "min_lr", "weight_decay", "grad_clip", "eps")],
    *[(name, math.inf) for name in ("learning_rate", "min_lr", "weight_decay", "eps")],
    ("min_lr", 1.0),
    *[("betas", value) for value in ((0.9,), (0.9, 0.95, 0.99), (1.0, 0.9), (0.9, -0.1), (math.nan, 0.9))],
    ("device", "tpu"),
    ("kernels", "slow"),
]


def refusal(config, name, value):
    with pytest.raises(ConfigError) as caught:
        config(**{name: value})
    return str(caught.value)


@pytest.mark.parametrize(("name", "value"), BAD_MODEL)
def test_bad_model_settings(name, value):
    message = refusal(TransformerConfig, name, value)
    assert name in message and str(value) in message and "\n" not in message


@pytest.mark.parametrize(("name", "value"), BAD_TRAINING)
def test_bad_training_settings(name, value):
    message = refusal(TrainingConfig, name, value)
    assert name in message and str(value) in message and "\n" not in message


def test_settings_that_do_not_go_together():
    with pytest.raises(ConfigError, match="n_embd 10 is not divisible by n_head 4"):
        TransformerConfig(n_embd=10, n_head=4)
    with pytest.raises(ConfigError, match="even n_embd, not 9"):
        TransformerConfig(n_embd=9, n_head=3, positions="sinusoidal")
    TransformerConfig(n_embd=9, n_head=3)
    with pytest.raises(ConfigError, match=r"min_lr 0\.1 is above learning_rate 0\.01"):
        TrainingConfig(min_lr=0.1, learning_rate=0.01)


def test_every_field_is_explained_and_the_defaults_are_sound():
    for config in (TransformerConfig(), TrainingConfig()):
        for field in dataclasses.fields(config):
            assert field.metadata["help"], field.name


def test_a_config_cannot_be_changed_behind_its_checks():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().seed = -1


# ------------------------------------------------------------------------------------------------ TOML


def load(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_toml(path)


def test_a_good_file(tmp_path):
    tables = load(tmp_path, '[model]\nn_layer = 2\nbias = false\n[training]\nlearning_rate = 1\nbetas = [0, 0.9]\n'
                            'data = ["a.txt", "ä.txt"]\n')  # fmt: skip
    assert tables == {
        "model": {"n_layer": 2, "bias": False},
        "training": {"learning_rate": 1.0, "betas": (0.0, 0.9), "data": ("a.txt", "ä.txt")},
    }
    assert type(tables["training"]["learning_rate"]) is float
    assert load(tmp_path, "") == {"model": {}, "training": {}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[model]\nn_layers = 2", r"unknown key 'n_layers' in \[model\]; did you mean 'n_layer'\?"),
        ("[training]\nlearning_rat = 0.1", r"unknown key 'learning_rat' in \[training\]; did you mean 'learning_rate'"),
        ("[training]\nxyzzy = 1", r"unknown key 'xyzzy' in \[training\]$"),
        ("[model]\nseq_len = 8", r"unknown key 'seq_len' in \[model\]"),  # of the other section
        ("n_layer = 2", r"unknown 'n_layer'; expected the sections \[model\] and \[training\]"),
        ("[optimizer]\nlr = 1", "unknown 'optimizer'"),
        ("model = 3", "unknown 'model'"),
        ("[[model]]\nn_layer = 1", "unknown 'model'"),
        ("[model]\nn_layer = 2.0", r"n_layer is 2\.0; expected int"),
        ("[model]\nn_layer = true", "n_layer is True; expected int"),
        ('[model]\nn_layer = "2"', "n_layer is '2'; expected int"),
        ("[model]\nbias = 1", "bias is 1; expected bool"),
        ("[model]\ngelu = 1", "gelu is 1; expected str"),
        ('[training]\ndata = "input.txt"', "data is 'input.txt'; expected a list"),
        ("[training]\ndata = [1]", "data is 1; expected str"),
        ("[training]\nbetas = 0.9", r"betas is 0\.9; expected a list"),
        ('[training]\nbetas = ["a", "b"]', "betas is 'a'; expected float"),
        ("[training]\nlearning_rate = false", "learning_rate is False; expected float"),
        ("[model\nn_layer = 2", "is not valid TOML"),
        ("[model]\nn_layer = 2\nn_layer = 3", "is not valid TOML"),
    ],
)
def test_slips_in_a_file_are_refused_in_one_line(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "config.toml") in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "latin.toml"):
        with pytest.raises(ConfigError) as caught:
            load_toml(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_the_configs_that_come_along_are_sound(path):
    tables = load_toml(path)
    TransformerConfig(**tables["model"])
    config = TrainingConfig(**tables["training"])
    assert config.warmup_steps < config.max_steps
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_there_are_configs():
    found = {path.stem for path in (ROOT / "configs").glob("*.toml")}
    assert {"default", "shakespeare_char", "capstone", "baby_gpt"} <= found


@pytest.mark.parametrize("given", ["tiny", "tiny.toml", "configs/tiny.toml"])
def test_shipped_configs_are_found_from_any_folder(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(given) == CONFIGS / "tiny.toml" and load_toml(find_config(given))["model"]["n_layer"] == 2
    with pytest.raises(ConfigError, match=r"no config other/tiny.toml; .* a shipped one's name: baby_gpt, .*, tiny"):
        load_toml(find_config("other/tiny.toml"))
    for name in ("n" * 300, "a\0b"):  # a file system's refusals are its reader's to tell
        assert find_config(name) == Path(name)
    own = Path(given)
    own.parent.mkdir(exist_ok=True)
    own.write_text("")
    assert find_config(given) == own
