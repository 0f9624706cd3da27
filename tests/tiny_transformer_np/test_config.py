"""The configurations: every value that makes no sense, and every slip in a TOML file, is refused in one line."""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest

from tiny_transformer_np import ConfigError, TrainingConfig, TransformerConfig, other_names
from tiny_transformer_np.config import CONFIGS, DERIVED, find_config, load_toml

ROOT = Path(__file__).resolve().parents[2]

BAD_MODEL = [
    *[(name, value) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd") for value in (0, -1)],
    *[("dropout", value) for value in (-0.1, 1.0, 1.5, math.nan, math.inf)],
    ("n_head", 3),
    *[(name, value) for name in ("vocab_size", "n_layer", "n_head", "n_embd") for value in (2**31, 10**10, 2.0, True)],
    ("bias", 1),
    ("dropout", True),
    ("dropout", "0.1"),
    ("positions", "rotary"),
    ("positions", 3),
    ("gelu", "fast"),
]
POSITIVE = ("seq_len", "batch_size", "grad_accumulation_steps", "epochs", "log_interval", "eval_interval",
            "save_interval", "learning_rate", "eps")  # fmt: skip
NOT_NEGATIVE = ("stride", "max_steps", "warmup_steps", "weight_decay", "grad_clip", "min_lr", "sample_tokens", "seed",
                "threads", "vocab_size", "eval_tokens", "num_workers")  # fmt: skip
BAD_TRAINING = [
    *[(name, value) for name in POSITIVE for value in (0, -1)],
    *[(name, -1) for name in NOT_NEGATIVE],
    *[(name, math.nan) for name in ("learning_rate", "min_lr", "weight_decay", "grad_clip", "eps")],
    *[(name, math.inf) for name in ("learning_rate", "min_lr", "weight_decay", "eps")],
    *[(name, value) for name in ("seq_len", "batch_size") for value in (2**31, 2.0, True, None)],
    *[(name, 2**63) for name in ("stride", "max_steps", "epochs", "log_interval", "sample_tokens", "threads")],
    ("seed", 2**64),
    *[(name, 1e39) for name in ("learning_rate", "min_lr", "weight_decay", "eps")],
    ("eps", 1e-50),
    ("min_lr", 1.0),
    ("data", "input.txt"),
    ("overfit_one_batch", 0),
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


def test_values_of_other_types_that_mean_the_same_are_taken():
    model = TransformerConfig(n_embd=np.int64(8), n_head=np.int32(2), dropout=np.float32(0.5))
    assert [type(v) for v in (model.n_embd, model.n_head, model.dropout)] == [int, int, float]
    training = TrainingConfig(learning_rate=1, betas=[0, np.float64(0.5)], data=[Path("a.txt")], seed=2**64 - 1)
    assert training == TrainingConfig(learning_rate=1.0, betas=(0.0, 0.5), data=("a.txt",), seed=2**64 - 1)


LONG = "x" * 5_000_000


@pytest.mark.parametrize(
    "value",
    [LONG, 10**4000, 1 << 10**6, [LONG] * 3, list(range(10**5)), {LONG: LONG}, LONG.encode(), object, -(1 << 10**6)],
    ids=lambda value: type(value).__name__,
)
def test_messages_never_repeat_a_long_value(value):
    for config, names in ((TransformerConfig, ("n_layer", "dropout", "bias", "gelu")), (TrainingConfig, ("betas",))):
        for name in names:
            message = refusal(config, name, value)
            assert name in message and len(message) < 700


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
        ("[model]\nseq_len = 8", r"unknown key 'seq_len' in \[model\]; it belongs into \[training\]$"),
        ("[training]\nlr = 8", r"unknown key 'lr' in \[training\]; it is called learning_rate here$"),
        (
            "[model]\nblock_size = 8\nnum_layers = 2",
            r"unknown key 'num_layers' in \[model\]; it is called n_layer here$",
        ),
        ("[training]\nblock_size = 8", r"unknown key 'block_size' in \[training\]; it belongs into \[model\]"),
        ("[training]\nlayers = 8", r"unknown key 'layers' in \[training\]; it is called n_layer in \[model\] here$"),
        ("[training]\nout = 'x'", r"unknown key 'out' in \[training\]; it is called --out-dir here$"),
        ("[training]\nmax-iters = 8", r"unknown key 'max-iters' in \[training\]; it is called max_steps here$"),
        ("n_layer = 2", r"'n_layer'; expected the sections \[model\] and \[training\]; it belongs into \[model\]$"),
        ("max_iters = 2", r"and \[training\]; it is called max_steps in \[training\] here$"),
        ("n_leyer = 2", r"unknown 'n_leyer'; expected the sections \[model\] and \[training\]$"),
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
        ("[model]\nn_layer = 99999999999999999999", "n_layer is 99999999999999999999; expected at most 2147483647"),
        (f"[model]\nn_layer = {'9' * 5000}", "is not valid TOML: Exceeds the limit"),
        (f"[model]\nn_layer = 0x{'f' * 5000}", r"n_layer is an integer of 20000 bits; expected at most"),
        (f"[training]\nlearning_rate = 0x{'f' * 5000}", "learning_rate is inf; expected at most"),
        ("[training]\nlearning_rate = 1e999", "learning_rate is inf; expected at most"),
        ("[training]\neps = nan", "eps is nan; expected more than 0"),
        (f"x = {'[' * 3000}{']' * 3000}", "is nested too deeply"),
        (f"x = {'{a=' * 3000}1{'}' * 3000}", "is nested too deeply"),
        (f"{'a.' * 3000}a = 1", "more than 1,000 dots"),
        (f"x = '{'y' * (1 << 20)}'", "more than 1,048,576 characters"),
        (f"[training]\ndevice = '{'y' * 10**6}'", r"device is 'y+\.\.\.y+'; expected one of cpu, cuda"),
        (f"[model]\n'{'y' * 10**6}' = 1", r"unknown key 'y+\.\.\.y+' in"),
        ('[model]\n"\\u001b[31m" = 1', r"unknown key '\\x1b\[31m' in"),
        ('"\\u0000" = 1', r"unknown '\\x00'; expected"),
        ("[model]\nx = '\0'", "is not valid TOML"),
        ("[model\nn_layer = 2", "is not valid TOML"),
        ("[model]\nn_layer = 2\nn_layer = 3", "is not valid TOML"),
    ],
)
def test_slips_in_a_file_are_refused_in_one_line(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        tables = load(tmp_path, text)
        TransformerConfig(**tables["model"]), TrainingConfig(**tables["training"])
    message = str(caught.value)
    assert len(message) < 500 and "\n" not in message
    assert str(tmp_path / "config.toml") in message or "; expected " in message  # a value of its type


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "latin.toml", tmp_path / "pipe.toml", "/dev/zero"):
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


def test_other_trainers_names_lead_to_settings_that_exist():
    ours = {f.name for config in (TransformerConfig, TrainingConfig) for f in dataclasses.fields(config)}
    ours = (ours | {"out_dir", "resume", "config"}) - set(DERIVED)
    ours.add("vocab_size")  # of the training too
    for theirs, here in other_names.NAMES.items():
        named: list[str] = []
        hint = other_names.name_here(theirs.replace("_", "-"), lambda name, named=named: named.append(name) or name)
        assert theirs not in ours and set(named) <= ours and hint.startswith("; "), (theirs, hint)
        assert named or here.startswith(": "), theirs
    assert other_names.name_here("xyzzy", other_names.as_flag) == ""


def test_a_byte_order_mark_and_foreign_line_ends_are_read(tmp_path):
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf[model]\r\nn_layer = 2\r\n")
    assert load_toml(tmp_path / "config.toml")["model"] == {"n_layer": 2}


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
