"""A run that is resumed on other data: the changed file is named; byte order marks stay what they were."""

import codecs
import json

import pytest
from small_models import TEXT, training_config

from tiny_transformer_np import CharTokenizer, ConfigError, TrainingConfig
from tiny_transformer_np.training import checkpoint, data_identity
from tiny_transformer_np.training.build_trainer import build_trainer
from tiny_transformer_np.training.checkpoint_schema import keeps_marks, reads_plain

MODEL = {"n_layer": 1, "n_head": 1, "n_embd": 4}
KEPT = {"tokenizer": {"kind": "char", "vocabulary": "\ufeff"}, "data": {}}  # of a checkpoint of version 0.1.0


def trainer_on(data, val_data=(), made_with=None, **settings):
    config = training_config(data=[str(path) for path in data], val_data=[str(path) for path in val_data], **settings)
    return build_trainer(MODEL, config, made_with=made_with)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "val.txt")]
    for path in paths:
        path.write_text(TEXT)
    return paths


@pytest.mark.parametrize(
    ("changed", "new"), [(0, TEXT[1:]), (1, TEXT + "!"), (2, TEXT.replace("q", "Q")), (2, TEXT.replace("fox", "xof"))]
)
def test_the_file_that_changed_is_named(files, changed, new, tmp_path):
    data, val_data = files[:2], files[2:]
    trainer_on(data, val_data).save_checkpoint(tmp_path / "c")
    trainer_on(data, val_data).load_checkpoint(tmp_path / "c")
    moved = [path.rename(path.with_name("moved-" + path.name)) for path in files]
    trainer_on(moved[:2], moved[2:]).load_checkpoint(tmp_path / "c")  # known by contents, not by name
    moved[changed].write_text(new)
    with pytest.raises(ConfigError) as refused:
        trainer_on(moved[:2], moved[2:]).load_checkpoint(tmp_path / "c")
    message = str(refused.value)
    assert f"made on other data: {moved[changed]} changed since then" in message and "\n" not in message
    assert not any(str(path) in message for path in moved if path != moved[changed])
    with pytest.raises(ConfigError, match="was made on 3 files of data, and these are 2; give the same --data"):
        trainer_on(moved[:1], moved[2:]).load_checkpoint(tmp_path / "c")


def test_a_checkpoint_does_not_grow_with_the_number_of_files():
    names = [str(n) for n in range(1001)]
    assert data_identity.digests_of_files(names[:1000]) == names[:1000]
    (digest,) = data_identity.digests_of_files(names)
    assert [digest] != data_identity.digests_of_files(names[::-1])


def test_the_manual_of_another_python_is_said_to_be_that():
    then, now = CharTokenizer("ab"), CharTokenizer("abc")
    meta = {"data": {"train": "1", "val": "2"}, "tokenizer": then.to_json(), "versions": {"python": "3.9.1"}}
    data = {"train": "3", "val": "4", "files": []}
    found = data_identity.changed_data(meta, data, (), now, TrainingConfig())
    assert found.startswith("was trained on the manual of Python 3.9.1, and that of this Python, 3.")


def as_0_1_0_wrote_it(path):
    """Rewrite a checkpoint without what later versions say about its data."""
    arrays, meta = checkpoint.load(path)
    del meta["data"]["files"], meta["data"]["byte_order_marks"], meta["data"]["plain_text"]
    checkpoint.save(path, arrays, meta)
    return json.loads(json.dumps(meta))


def test_a_run_of_0_1_0_on_a_file_with_a_byte_order_mark_goes_on_as_it_began(tmp_path):
    marked = tmp_path / "marked.txt"
    marked.write_bytes(codecs.BOM_UTF8 + TEXT.encode())
    assert "\ufeff" not in trainer_on([marked]).train_dataset.tokenizer.vocabulary
    trainer_on([marked], made_with=KEPT).save_checkpoint(tmp_path / "c")
    meta = as_0_1_0_wrote_it(tmp_path / "c")
    for _ in range(2):  # the second time from a checkpoint that this version has written
        assert keeps_marks(meta) and reads_plain(meta)
        resumed = trainer_on([marked], made_with=meta)
        resumed.load_checkpoint(tmp_path / "c")
        resumed.save_checkpoint(tmp_path / "c")
        meta = checkpoint.load(tmp_path / "c")[1]
    trainer_on([marked]).save_checkpoint(tmp_path / "new")
    meta = checkpoint.load(tmp_path / "new")[1]
    assert not keeps_marks(meta) and not reads_plain(meta)


def test_a_run_of_0_1_0_on_a_jsonl_file_goes_on_reading_it_as_text(tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(f'{{"text": "{TEXT}"}}\n' for _ in range(3)))
    assert "{" not in trainer_on([lines]).train_dataset.tokenizer.vocabulary
    trainer_on([lines], made_with=KEPT).save_checkpoint(tmp_path / "c")
    meta = as_0_1_0_wrote_it(tmp_path / "c")
    resumed = trainer_on([lines], made_with=meta)
    resumed.load_checkpoint(tmp_path / "c")
    assert "{" in resumed.train_dataset.tokenizer.vocabulary
    with pytest.raises(ConfigError):
        trainer_on([lines]).load_checkpoint(tmp_path / "c")
