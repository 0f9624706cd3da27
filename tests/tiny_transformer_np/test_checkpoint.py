"""Checkpoints: bit for bit what was saved, refused when damaged or of another run, never half-written, no pickle.

Resuming inside one process; tests/test_resume.py kills whole ones.
"""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import TEXT, make_trainer, same_bits, weights_of

from kernels.system import tensors
from kernels.system.files import replacing
from tiny_transformer_np import CharTokenizer, ConfigError, tokenizers
from tiny_transformer_np.training import TextDataset, checkpoint
from tiny_transformer_np.training.run_folder import Run

ROOT = Path(__file__).resolve().parents[2]


def state_of(trainer):
    """All that a step can change, as {name: array}."""
    optimizer = trainer.optimizer.state_dict()
    moments = {f"{moment}.{name}": x for moment in ("m", "v") for name, x in optimizer[moment].items()}
    steps = {f"step.{name}": np.array(step) for name, step in optimizer["step"].items()}
    numbers = {"step": np.array(trainer.step), "best": np.array(trainer.best_val_loss),
               "rate": np.array(trainer.optimizer.learning_rate)}  # fmt: skip
    return weights_of(trainer) | moments | steps | numbers


def refused(path, load=checkpoint.load):
    """The one line with which a file is refused."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


# --------------------------------------------------------------------------------------- save and load


def test_arrays_and_meta_come_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    square = rng.standard_normal((6, 4))
    arrays = {
        "plain": square.astype(np.float32), "double": square, "transposed": square.T, "every second": square[::2, 1:],
        "reversed": square[::-1], "broadcast": np.broadcast_to(square[0], (3, 4)), "scalar": np.array(2.5),
        "empty": np.zeros((0, 3), np.float32), "ints": np.arange(5),
        "special": np.array([np.nan, np.inf, -0.0, 5e-324]),
    }  # fmt: skip
    meta = {"text": 'Ä "quoted"\n\0\U0001f600', "number": 0.1 + 0.2, "none": None, "list": [1, 2]}
    path = tmp_path / "new" / "folder" / "c.safetensors"
    checkpoint.save(path, arrays, meta)
    loaded, loaded_meta = checkpoint.read(path)
    assert same_bits(loaded, arrays)
    assert {name: x.shape for name, x in loaded.items()} == {name: x.shape for name, x in arrays.items()}
    assert loaded_meta == meta | {"format": checkpoint.FORMAT}
    assert [file.name for file in path.parent.iterdir()] == ["c.safetensors"]


def test_a_trainer_comes_back_whole(tmp_path):
    trainer = make_trainer(model={"dropout": 0.1})
    for _ in range(3):
        trainer.train_step()
    trainer.best_val_loss = 2.5
    trainer.save_checkpoint(tmp_path / "c")
    fresh = make_trainer(model={"dropout": 0.1})
    assert not same_bits(state_of(fresh), state_of(trainer))
    fresh.load_checkpoint(tmp_path / "c")
    assert same_bits(state_of(fresh), state_of(trainer))


def test_a_model_comes_back_with_its_tokenizer(tmp_path):
    trainer = make_trainer(text="äöü\U0001f600" * 40)
    trainer.save_checkpoint(tmp_path / "c")
    model, tokenizer, meta = checkpoint.load_model(tmp_path / "c")
    assert tokenizer.vocabulary == "äöü\U0001f600"
    assert same_bits(weights_of(trainer), model.state_dict())
    assert model.config == trainer.model.config and not model.training
    assert meta["step"] == 0


@pytest.mark.parametrize("kind", ["byte", "bpe", "ids"])
def test_every_kind_of_tokenizer_is_in_the_checkpoint_and_another_one_is_refused(tmp_path, kind):
    text = TEXT if kind != "ids" else " 1 2 3 4" * 40
    made = tokenizers.IdTokenizer(5) if kind == "ids" else tokenizers.train(kind, [text], 280)
    trainer = make_trainer(text=text, made=made)
    trainer.save_checkpoint(tmp_path / "c")
    _, tokenizer, meta = checkpoint.load_model(tmp_path / "c")
    assert tokenizer.kind == kind and tokenizer.to_json() == made.to_json() == meta["tokenizer"]
    assert tokenizer.decode(tokenizer.encode(text)).split() == text.split()
    make_trainer(text=text, made=tokenizers.from_json(made.to_json())).load_checkpoint(tmp_path / "c")
    others = {"bpe": tokenizers.train("bpe", [text * 2 + " quick" * 99], 280), "ids": tokenizers.IdTokenizer(6)}
    other = make_trainer(text=text, made=others.get(kind) or tokenizers.train("bpe", [text], 257))
    assert f"has another tokenizer: {kind} of {made.vocab_size}, " in refused(tmp_path / "c", other.load_checkpoint)


def rows_of(run):
    """Metrics without what the clock has a say in."""
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{k: x for k, x in row.items() if k not in ("tokens_per_second", "elapsed_seconds")} for row in rows]


@pytest.mark.parametrize("k", [0, 1, 4])
def test_k_steps_and_the_rest_equal_all_steps(tmp_path, monkeypatch, k):
    """Weights, moments, learning rate and metrics, with dropout, clipping and accumulation: bit for bit."""
    monkeypatch.setattr("tiny_transformer_np.training.trainer.draw_metrics", lambda rows, path: None)  # slow
    settings = {"model": {"dropout": 0.2}, "max_steps": 7, "grad_accumulation_steps": 2, "batch_size": 2}
    whole = make_trainer(run=Run(tmp_path / "whole"), **settings)
    assert whole.train() is True

    first = make_trainer(run=Run(tmp_path / "parts"), **settings)
    first.stopped_by = None if k else signal.SIGTERM
    monkeypatch.setattr(first.progress, "step", lambda n, *_: setattr(first, "stopped_by", n == k and signal.SIGTERM))
    assert first.train() is False
    assert first.step == k

    second = make_trainer(run=Run(tmp_path / "parts"), **settings)
    second.load_checkpoint(first.run.latest)
    assert second.step == k
    assert second.train() is True
    assert same_bits(state_of(second), state_of(whole))
    assert rows_of(second.run) == rows_of(whole.run)


def test_equal_runs_write_equal_files(tmp_path):
    """Checkpoints, samples and the last picture's presence; metrics up to what the clock says."""
    runs = [Run(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        make_trainer(run=run, max_steps=2, sample_tokens=9).train()
        assert run.plot.read_bytes().startswith(b"\x89PNG")
        assert len(run.sample(2).read_text(encoding="utf-8")) == 10
    for a, b in zip(*([run.latest, run.best, run.sample(2)] for run in runs), strict=True):
        assert a.read_bytes() == b.read_bytes()
    assert rows_of(runs[0]) == rows_of(runs[1])


# ------------------------------------------------------------------------------------ damaged, foreign


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A sound checkpoint's bytes."""
    path = tmp_path_factory.mktemp("good") / "c.safetensors"
    make_trainer(model={"n_layer": 1}).save_checkpoint(path)
    checkpoint.load(path)
    return path.read_bytes()


def offsets(content):
    """Places to damage: the header's length, all over the header, the first and last tensors."""
    header = 8 + int.from_bytes(content[:8], "little")
    meta, digest = content.index(b"minigrad"), content.index(b"sha256")
    in_header = [0, 3, 7, 8, 9, meta, meta + 30, meta + 300, digest, digest + 12, *range(100, header, 97), header - 1]
    return [*in_header, header, header + 1, (header + len(content)) // 2, len(content) - 1]


def test_any_flipped_bit_is_noticed(tmp_path, good):
    path = tmp_path / "c.safetensors"
    for at in offsets(good):
        for bit in (0, 5, 7):
            content = bytearray(good)
            content[at] ^= 1 << bit
            path.write_bytes(content)
            refused(path)


def test_any_missing_or_extra_end_is_noticed(tmp_path, good):
    path = tmp_path / "c.safetensors"
    for length in [0, 1, 8, *offsets(good)]:
        path.write_bytes(good[:length])
        refused(path)
    path.write_bytes(good + b"\0")
    refused(path)


def test_files_that_are_no_checkpoints(tmp_path):
    assert "cannot read" in refused(tmp_path / "none")
    refused(tmp_path)
    (tmp_path / "text").write_text("not a checkpoint, but longer than eight bytes")
    refused(tmp_path / "text")
    save_file({"x": np.zeros(3)}, tmp_path / "foreign")
    assert "not a checkpoint of this program" in refused(tmp_path / "foreign")
    save_file({"x": np.zeros(3)}, tmp_path / "other", {"format": "pt"})
    assert "not a checkpoint of this program" in refused(tmp_path / "other")


def test_a_format_of_the_future_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    checkpoint.save(tmp_path / "c", {"x": np.zeros(3)}, {})
    monkeypatch.undo()
    assert "has format 2; this version reads format 1" in refused(tmp_path / "c")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": {"n_layer": 1}}, r"another model: n_layer 2 \(here 1\)"),
        ({"model": {"n_embd": 12, "bias": False}}, r"n_embd 8 \(here 12\), bias True \(here False\)"),
        ({"model": {"dropout": 0.5}}, r"dropout 0\.0 \(here 0\.5\)"),
        ({"seq_len": 16}, r"block_size 8 \(here 16\)"),
        (
            {"text": TEXT.replace("q", "Q")},
            "another tokenizer: the data now have 'Q' and they no longer have 'q'; give",
        ),
        ({"text": TEXT.replace("z", "zÄ")}, r"another tokenizer: the data now have 'Ä'; give"),  # vocab_size follows
        ({"text": TEXT.replace("quick", "kciuq")}, "other data: the text to train on and the text to validate differ"),
        ({"text": TEXT[:-20] + TEXT[-20:][::-1]}, "made on other data: the text to validate differs; give the same"),
    ],
)
def test_another_runs_checkpoint_is_refused_and_nothing_changed(tmp_path, changes, named):
    make_trainer().save_checkpoint(tmp_path / "c")
    other = make_trainer(**changes)
    other.train_step()
    before = state_of(other)
    assert re.search(named, refused(tmp_path / "c", other.load_checkpoint))
    assert same_bits(state_of(other), before)


def test_a_vocabulary_in_another_order_is_refused(tmp_path):
    trainer = make_trainer()
    trainer.save_checkpoint(tmp_path / "c")
    turned = CharTokenizer(trainer.train_dataset.tokenizer.vocabulary[::-1])
    trainer.train_dataset = TextDataset(trainer.train_dataset.tokens, turned, 8)
    assert "another tokenizer" in refused(tmp_path / "c", trainer.load_checkpoint)


def test_a_damaged_checkpoint_changes_nothing(tmp_path, good):
    trainer = make_trainer(model={"n_layer": 1})
    trainer.train_step()
    before = state_of(trainer)
    (tmp_path / "c").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    refused(tmp_path / "c", trainer.load_checkpoint)
    assert same_bits(state_of(trainer), before)


# ------------------------------------------------------------------------------------------ on disk


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as partial:
        partial.write_text("half of the ne")
        assert path.read_text() == "old" and partial.parent == tmp_path
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_checkpoint_leaves_the_old_one(tmp_path, monkeypatch):
    trainer = make_trainer()
    trainer.save_checkpoint(tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    trainer.train_step()

    def full_disk(file, arrays, metadata):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(tensors, "write", full_disk)
    with pytest.raises(OSError, match="no space"):
        trainer.save_checkpoint(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "c"]


def test_other_programs_can_read_the_arrays(tmp_path):
    trainer = make_trainer()
    trainer.save_checkpoint(tmp_path / "c")
    arrays = load_file(tmp_path / "c")
    np.testing.assert_array_equal(arrays["model.blocks.0.mlp.fc.weight"], trainer.model.blocks[0].mlp.fc.weight.data)
    names = [name for name, _ in trainer.model.named_parameters()]
    assert arrays.keys() == {f"{kind}.{name}" for kind in ("model", "adamw.m", "adamw.v") for name in names}


def test_there_is_no_pickle_anywhere():
    """Not even through NumPy, whose `load` runs one when allowed to."""
    pattern = re.compile(r"^\s*(import|from)\s+(c?pickle|_pickle|dill|cloudpickle|shelve|marshal|joblib)\b"
                         r"|allow_pickle|np\.(load|save)\b", re.MULTILINE)  # fmt: skip
    assert pattern.search("import pickle") and pattern.search("np.load(path, allow_pickle=True)")
    sources = [ROOT / "train.py", *(f for part in ("kernels", "minigrad", "tiny_transformer_np")
                                    for f in (ROOT / part).rglob("*.py"))]  # fmt: skip
    assert len(sources) > 30
    assert [str(file) for file in sources if pattern.search(file.read_text(encoding="utf-8"))] == []
