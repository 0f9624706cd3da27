"""What --data can be: texts, prepared folders, files of ids; what does not fit together is refused in one line."""

import dataclasses
import json
import shutil
import struct

import numpy as np
import pytest
from small_models import TEXT, training_config

from tiny_transformer_np import CharTokenizer, ConfigError, tokenizers
from tiny_transformer_np.config import as_made
from tiny_transformer_np.corpus import cache
from tiny_transformer_np.corpus.shards import EncodedPiece, write_index, write_shard
from tiny_transformer_np.corpus.tokens import Joined, Tokens
from tiny_transformer_np.tokenizers import ByteTokenizer
from tiny_transformer_np.training import checkpoint
from tiny_transformer_np.training.build_trainer import build_trainer
from tiny_transformer_np.training.data import load_data
from tiny_transformer_np.training.dataset import TextDataset
from tiny_transformer_np.training.metrics import MetricsLog
from tiny_transformer_np.training.preflight import data as preflight_data

MODEL = {"n_layer": 1, "n_head": 1, "n_embd": 4}


def config_of(data=(), val_data=(), **settings):
    return training_config(data=[str(path) for path in data], val_data=[str(path) for path in val_data], **settings)


def refusal(config, model=MODEL, made_with=None):
    with pytest.raises(ConfigError) as refused:
        build_trainer(model, config, made_with=made_with)
    message = str(refused.value)
    assert "\n" not in message and len(message) < 600
    return message


def prepared(folder, texts, val_texts=(), tokenizer=None):
    """A folder as `prepare` makes it, a document for each text."""
    tokenizer = tokenizer or ByteTokenizer()
    folder.mkdir()
    splits = []
    for split, documents in (("train", texts), ("val", val_texts)):
        pieces = [
            EncodedPiece(np.append(tokenizer.encode(text), tokenizer.end_of_text), len(text.encode()), True)
            for text in documents
        ]
        splits.append([write_shard(folder, f"{split}-00000", pieces, "uint16")] if pieces else [])
    write_index(folder, tokenizer, "uint16", *splits)
    return folder


def text_file(path, text=TEXT):
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------------------ texts


def test_a_text_has_the_tokens_and_digests_that_released_versions_had(tmp_path):
    paths = [text_file(tmp_path / "a.txt"), text_file(tmp_path / "b.txt", "ä ö ü\n" + TEXT)]
    text = "\n".join(path.read_text() for path in paths)
    tokenizer = CharTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    data = load_data(config_of(paths))
    cut = int(0.9 * len(ids))
    np.testing.assert_array_equal(data.train[:], ids[:cut])
    np.testing.assert_array_equal(data.val[:], ids[cut:])
    digests = data.identity.digests()
    assert digests["train"] == TextDataset(ids[:cut], tokenizer, 8).digest()
    assert digests["val"] == TextDataset(ids[cut:], tokenizer, 8).digest()
    assert data.tokenizer.to_json() == tokenizer.to_json()


def test_the_manual_is_read_with_any_tokenizer(tmp_path, monkeypatch):
    monkeypatch.setattr("tiny_transformer_np.training.data.python_manual", lambda: TEXT)
    assert len(load_data(config_of()).train) == int(0.9 * len(TEXT))
    data = load_data(config_of(tokenizer="byte"))
    assert data.tokenizer.kind == "byte" and len(data.train) + len(data.val) == len(TEXT.encode()) + 1
    val = text_file(tmp_path / "val.txt", TEXT.upper())
    for name in ("char", "byte"):
        validated = load_data(config_of(val_data=[val], tokenizer=name))
        assert len(validated.train) == len(TEXT.encode()) + (name == "byte") and len(validated.identity.paths) == 1
        assert validated.tokenizer.decode(validated.val[: len(TEXT)]) == TEXT.upper()
    assert load_data(config_of(val_data=[val])).tokenizer.vocabulary == "".join(sorted(set(TEXT + TEXT.upper())))
    folder = prepared(tmp_path / "corpus", [TEXT])
    assert "and the manual is text; give --data of the same kind" in refusal(config_of(val_data=[folder]))


def test_a_small_text_gives_a_small_vocabulary_and_one_note(tmp_path, capsys):
    trainer = build_trainer(MODEL, config_of([text_file(tmp_path / "a.txt")], tokenizer="bpe", vocab_size=4096))
    size = trainer.model.config.vocab_size
    assert trainer.train_dataset.tokenizer.kind == "bpe" and 257 < size < 4096
    assert capsys.readouterr().err == f"note: the data have word pieces for a vocabulary of {size:,}, not 4,096\n"
    assert "need 401" in refusal(config_of([tmp_path / "a.txt"], tokenizer="bpe", vocab_size=4096, seq_len=400))
    build_trainer(MODEL, config_of([tmp_path / "a.txt"], tokenizer="bpe", vocab_size=270))
    assert capsys.readouterr().err == ""


def test_a_tokenizer_is_not_trained_again(tmp_path, monkeypatch):
    """Nor read again from its file, which may be gone."""
    path, file = text_file(tmp_path / "a.txt"), tmp_path / "tokenizer.json"
    trained = build_trainer(MODEL, config_of([path], tokenizer="bpe", vocab_size=280))
    file.write_text(json.dumps(trained.train_dataset.tokenizer.to_json()))
    given = build_trainer(MODEL, config_of([path], tokenizer=str(file)))
    assert given.train_dataset.tokenizer.to_json() == trained.train_dataset.tokenizer.to_json()
    for trainer, name in ((trained, "a"), (given, "b")):
        trainer.save_checkpoint(tmp_path / name)
    file.unlink()
    monkeypatch.setattr(tokenizers, "train", None)
    monkeypatch.setattr(cache, "write_shard", None)  # nor are the texts tokenized again
    for trainer, name in ((trained, "a"), (given, "b")):
        _, meta = checkpoint.load(tmp_path / name)
        again = build_trainer(MODEL, trainer.config, made_with=meta)
        again.load_checkpoint(tmp_path / name)
        assert again.evaluate() == trainer.evaluate()


def test_a_run_goes_on_where_the_cache_is_gone(tmp_path, monkeypatch):
    """On another machine, say; there too the tokenizer is the checkpoint's."""
    config = config_of([text_file(tmp_path / "a.txt")], tokenizer="bpe", vocab_size=280)
    trainer = build_trainer(MODEL, config)
    trainer.save_checkpoint(tmp_path / "c")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    monkeypatch.setattr(tokenizers, "train", None)
    again = build_trainer(MODEL, config, made_with=checkpoint.load(tmp_path / "c")[1])
    again.load_checkpoint(tmp_path / "c")
    assert list((tmp_path / "new").rglob("index.json")) and again.evaluate() == trainer.evaluate()


def test_a_changed_text_is_named_with_any_tokenizer(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    a, b = text_file(folder / "a.txt"), text_file(folder / "b.md")
    config = config_of([folder], tokenizer="bpe", vocab_size=280)
    build_trainer(MODEL, config).save_checkpoint(tmp_path / "c")
    b.write_text(TEXT + "é")
    _, meta = checkpoint.load(tmp_path / "c")
    with pytest.raises(ConfigError, match=rf"made on other data: {b} changed since then"):
        build_trainer(MODEL, config, made_with=meta).load_checkpoint(tmp_path / "c")
    a.unlink()
    with pytest.raises(ConfigError, match="was made on 2 files of data, and these are 1"):
        build_trainer(MODEL, config, made_with=meta).load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize(("settings", "said"), [
    ({"vocab_size": 300}, "vocab_size 300 is for --tokenizer bpe; with tokenizer char leave --vocab-size out"),
    ({"vocab_size": 300, "tokenizer": "byte"}, "with tokenizer byte leave --vocab-size out"),
    ({"tokenizer": "gone.json"}, "there is no tokenizer gone.json; expected auto, char, byte, bpe, a tokenizer.json,"),
    ({"tokenizer": "/home/me/bpr"}, "; did you mean 'bpe'?"),
    ({"tokenizer": "bpe", "vocab_size": 100}, "vocab_size is 100; expected 257"),
    ({"seq_len": 400}, "a window of seq_len 400 and its target need 401 in each; give at least 4001 tokens in all"),
])  # fmt: skip
def test_settings_that_do_not_fit_a_text_are_refused(tmp_path, settings, said):
    assert said in refusal(config_of([text_file(tmp_path / "a.txt")], **settings))


def test_a_short_validation_text_is_refused(tmp_path):
    long, short = text_file(tmp_path / "a.txt"), text_file(tmp_path / "b.txt", "the fox")
    said = refusal(config_of([long], [short]))
    assert said == (
        "the text for validation (--val-data) has 7 tokens, but a window of seq_len 8 and its target need 9; give more "
        "text or a smaller seq_len"
    )


# ------------------------------------------------------------------------------------------ prepared folders


def test_a_prepared_folder_is_trained_on_and_may_be_moved(tmp_path):
    folder = prepared(tmp_path / "corpus", [TEXT, TEXT[::-1]], ["pack my box"])
    trainer = build_trainer(MODEL, config_of([folder]))
    assert trainer.model.config.vocab_size == 257 and len(trainer.val_dataset.tokens) == 12
    losses = [trainer.train_step()[0] for _ in range(2)]
    trainer.save_checkpoint(tmp_path / "c")
    moved = shutil.move(folder, tmp_path / "elsewhere")
    _, meta = checkpoint.load(tmp_path / "c")
    said = refusal(config_of([folder]), made_with=meta)
    assert said == f"{folder}, which this run is trained on, is not there; if it was moved, give --data NEW"
    assert set(meta["data"]) == {"train", "val", "corpus"} and meta["training"]["tokenizer"] == "auto"
    again = build_trainer(MODEL, config_of([moved]), made_with=meta)
    again.load_checkpoint(tmp_path / "c")
    assert again.train_step()[0] == trainer.train_step()[0] not in losses
    other = prepared(tmp_path / "other", [TEXT, TEXT], ["pack my box"])
    with pytest.raises(ConfigError, match=r"was made on other data: the text to train on differs; give the same"):
        build_trainer(MODEL, config_of([other]), made_with=meta).load_checkpoint(tmp_path / "c")
    text = text_file(tmp_path / "a.txt")
    with pytest.raises(ConfigError, match="was made on a prepared folder or files of ids, and these data are texts"):
        build_trainer(MODEL, config_of([text], tokenizer="byte"), made_with=meta).load_checkpoint(tmp_path / "c")


def test_without_a_validation_part_the_last_tenth_validates(tmp_path):
    folder = prepared(tmp_path / "corpus", [TEXT, TEXT])
    data = load_data(config_of([folder]))
    assert len(data.train) == int(0.9 * 2 * (len(TEXT) + 1)) and len(data.train) + len(data.val) == 2 * (len(TEXT) + 1)
    assert len(data.train.ends) == 1 and len(data.val.ends) == 1
    val = prepared(tmp_path / "val", ["the lazy dog"])
    assert len(load_data(config_of([folder], [val])).val) == 13
    assert len(load_data(config_of([folder], [val])).train) == 2 * (len(TEXT) + 1)


def test_windows_may_keep_to_documents(tmp_path):
    folder = prepared(tmp_path / "corpus", ["abc", "defghijklmnop", TEXT], ["xyz"])
    trainer = build_trainer(MODEL, config_of([folder], cross_documents=False))
    assert trainer.evaluation().n_targets == 3
    end = trainer.train_dataset.tokenizer.end_of_text
    inputs, _ = trainer.train_dataset[np.arange(len(trainer.train_dataset))]
    assert end not in inputs
    short = text_file(tmp_path / "a.txt", "ab")
    assert "no document has a second token" in refusal(config_of([short], cross_documents=False))
    crossing = build_trainer(MODEL, config_of([folder], seq_len=3))
    assert end in crossing.train_dataset[np.arange(len(crossing.train_dataset))][0]


def test_tokenizers_that_do_not_fit_a_prepared_folder_are_refused(tmp_path):
    folder = prepared(tmp_path / "corpus", [TEXT])
    for settings in ({}, {"tokenizer": "byte"}, {"vocab_size": 257}, {"tokenizer": str(folder / "tokenizer.json")}):
        load_data(config_of([folder], **settings))
    for settings, asked in (
        ({"tokenizer": "char"}, "tokenizer char"), ({"tokenizer": "bpe"}, "tokenizer bpe"),
        ({"vocab_size": 300}, "a vocabulary of 300"),
    ):  # fmt: skip
        said = refusal(config_of([folder], **settings))
        assert said.startswith(f"{folder} was prepared with byte of 257, not {asked}; leave --tokenizer"), said
    other = prepared(tmp_path / "other", [TEXT], tokenizer=tokenizers.train("bpe", [TEXT], 280))
    said = refusal(config_of([folder], [other]))
    assert f"{other} was prepared with another tokenizer than {folder}" in said
    assert f"--tokenizer {folder / 'tokenizer.json'} --out DIR" in said
    assert "vocab_size is 300 in the config, but data" in refusal(config_of([folder]), {**MODEL, "vocab_size": 300})


def test_kinds_of_data_that_do_not_go_together_are_refused(tmp_path):
    folder, text = prepared(tmp_path / "corpus", [TEXT]), text_file(tmp_path / "a.txt")
    ids = tmp_path / "train.bin"
    np.arange(100, dtype="<u2").tofile(ids)
    said = refusal(config_of([folder, text]))
    assert f"--data has a prepared folder ({folder}) and texts ({text})" in said and f"prepare {text} --out DIR" in said
    assert "--val-data has texts" in refusal(config_of([folder], [text, ids]))
    assert "--data has 2 prepared folders; give one" in refusal(config_of([folder, folder]))
    for data, val in ((folder, text), (text, folder)):
        said = refusal(config_of([data], [val]))
        assert f"{folder} is prepared and {text} is not; prepare it with the same tokenizer" in said
        assert f"prepare {text} --tokenizer {folder / 'tokenizer.json'} --out DIR" in said
    assert "give --val-data of the same kind" in refusal(config_of([ids], [text]))


def test_a_preparation_that_was_not_ended_is_no_data(tmp_path):
    folder = prepared(tmp_path / "corpus", [TEXT])
    (folder / "index.json").unlink()
    assert "is not finished: give its command once more" in refusal(config_of([folder]))
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "plan.json").write_text("{}")
    assert f"prepare PATH... --out {begun}" in refusal(config_of([begun]))


@pytest.mark.parametrize("name", ["index.json", "train-00000.bin", "train-00000.borders", "tokenizer.json"])
def test_a_part_of_a_prepared_folder_is_no_data(tmp_path, name):
    folder = prepared(tmp_path / "corpus", [TEXT])
    (folder / "plan.json").write_text("{}")
    said = refusal(config_of([folder / name]))
    assert said == f"{folder / name} is a part of the prepared folder {folder}; give --data {folder}"


def test_a_run_is_no_data(tmp_path):
    for name in ("config.toml", "metrics.jsonl"):
        (tmp_path / name).write_text("{}")
    assert refusal(config_of([tmp_path])) == f"{tmp_path} is the folder of a run; --resume {tmp_path} goes on with it"


def test_a_folder_of_texts_may_have_an_index_of_its_own(tmp_path):
    text_file(tmp_path / "a.md")
    (tmp_path / "index.json").write_text("{}")
    assert load_data(config_of([tmp_path])).tokenizer.kind == "char"


def test_a_short_validation_part_is_refused(tmp_path):
    folder = prepared(tmp_path / "corpus", [TEXT], ["fox"])
    said = refusal(config_of([folder]))
    assert f"the text for validation (the validation part of {folder}) has 4 tokens" in said
    assert said.endswith("give more text or a smaller seq_len, or --val-data")


def test_a_validation_part_without_ids_is_not_taken_for_the_last_tenth(tmp_path):
    folder, tokenizer = prepared(tmp_path / "corpus", [TEXT]), ByteTokenizer()
    pieces = [EncodedPiece(tokenizer.encode(TEXT), len(TEXT), True)]
    splits = [[write_shard(folder, name, ids, "uint16")] for name, ids in (("train-00000", pieces), ("val-00000", []))]
    write_index(folder, tokenizer, "uint16", *splits)
    assert f"the text for validation (the validation part of {folder}) has 0 tokens" in refusal(config_of([folder]))


class Read:
    """Counts the ids that are read of Tokens."""

    def __init__(self, monkeypatch):
        self.most, original = 0, Joined._read

        def read(tokens, start, out):
            self.most = max(self.most, len(out))
            original(tokens, start, out)

        monkeypatch.setattr(Joined, "_read", read)


def test_a_check_of_a_long_text_reads_it_in_pieces(tmp_path, monkeypatch):
    """A corpus may be larger than memory."""
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(32, 127, 9000))) for _ in range(3)]
    trainer = build_trainer(MODEL, config_of([prepared(tmp_path / "corpus", texts[:2], texts[2:])]))
    monkeypatch.setattr(preflight_data, "LONGEST", 4000)
    monkeypatch.setattr(preflight_data, "PIECE", 1000)
    read = Read(monkeypatch)
    assert preflight_data.targets(trainer).startswith("the inputs shifted by one")
    assert preflight_data.split(trainer).startswith("0.0% of validation's 64-token passages recur")
    assert 1000 <= read.most < 1100
    rolled = trainer.train_dataset.batch
    monkeypatch.setattr(
        TextDataset, "batch", lambda *args: (rolled(*args[1:])[0], np.roll(rolled(*args[1:])[0], -1, 1))
    )
    with pytest.raises(preflight_data.CheckFailed, match="nowhere in the training text"):
        preflight_data.targets(trainer)


def test_validation_on_the_training_text_is_noticed(tmp_path):
    folder = prepared(tmp_path / "corpus", [TEXT])
    shutil.copytree(folder, tmp_path / "copy")
    for val, said in ((folder, "same stretch of one text"), (tmp_path / "copy", "tokens that the other begins with")):
        with pytest.raises(preflight_data.CheckFailed, match=said):
            preflight_data.split(build_trainer(MODEL, config_of([folder], [val])))


def test_ids_that_two_texts_share():
    ids = np.arange(20)
    tokens = Tokens(ids)
    assert tokens.overlaps(tokens) and tokens.part(3, 9).overlaps(tokens.part(8, 9))
    assert not tokens.part(0, 8).overlaps(tokens.part(8, 20)) and not tokens.overlaps(Tokens(ids.copy()))
    assert Tokens(ids[:10]).overlaps(Tokens(ids[9:])) and not Tokens(ids[:10]).overlaps(Tokens(ids[10:]))


# ------------------------------------------------------------------------------------------ files of ids


def write_llm_c(path, ids, magic=20240520, version=1, dtype="<u2"):
    path.write_bytes(struct.pack("<256i", magic, version, len(ids), *[0] * 253) + np.asarray(ids, dtype).tobytes())
    return path


def test_files_of_nanogpt_are_trained_on(tmp_path, capsys):
    ids = np.random.default_rng(0).integers(0, 300, 2000)
    ids[:1900].astype("<u2").tofile(tmp_path / "train.bin")
    ids[1900:].astype("<u2").tofile(tmp_path / "val.bin")
    (tmp_path / "meta.pkl").write_bytes(b"no pickle is read")
    trainer = build_trainer(MODEL, config_of([tmp_path]))
    assert "meta.pkl is not read" in capsys.readouterr().err
    assert trainer.model.config.vocab_size == ids.max() + 1 and trainer.train_dataset.tokenizer.kind == "ids"
    np.testing.assert_array_equal(trainer.val_dataset.tokens[:], ids[1900:])
    trainer.train_step()
    assert trainer.evaluation().bits_per_byte is None
    trainer.save_checkpoint(tmp_path / "c")
    _, meta = checkpoint.load(tmp_path / "c")
    build_trainer(MODEL, config_of([tmp_path]), made_with=meta).load_checkpoint(tmp_path / "c")
    sized = build_trainer(MODEL, config_of([tmp_path / "train.bin"], [tmp_path / "val.bin"], vocab_size=512))
    assert sized.model.config.vocab_size == 512
    said = refusal(config_of([tmp_path / "train.bin"], cross_documents=False))
    assert "does not tell where documents end; leave --no-cross-documents out" in said
    assert "ids that a tokenizer made already; give its file" in refusal(config_of([tmp_path], tokenizer="bpe"))


def test_files_of_llm_c_are_trained_on_with_their_tokenizer(tmp_path):
    tokenizer = tokenizers.train("bpe", [TEXT], 280)
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer.to_json()))
    ids = tokenizer.encode(TEXT)
    files = [write_llm_c(tmp_path / f"train_{i}.bin", ids) for i in range(2)]
    val = write_llm_c(tmp_path / "val.bin", ids[:50])
    config = config_of(files, [val], tokenizer=str(tmp_path / "tokenizer.json"))
    trainer = build_trainer(MODEL, config)
    pattern = build_trainer(MODEL, dataclasses.replace(config, data=(str(tmp_path / "train_*.bin"),)))
    assert pattern.identity.digests() == trainer.identity.digests()
    assert "no file matches the pattern" in refusal(config_of([tmp_path / "fineweb_*.bin"]))
    assert len(trainer.train_dataset.tokens) == 2 * len(ids) and trainer.evaluation().bits_per_byte > 0.0
    assert trainer.train_dataset.tokenizer.decode(trainer.train_dataset.tokens[: len(ids)]) == TEXT
    wide = write_llm_c(tmp_path / "wide.bin", [100_000] * 200, 20240801, 7, "<u4")
    assert build_trainer(MODEL, config_of([wide])).model.config.vocab_size == 100_001
    assert "has the id 100000" in refusal(dataclasses.replace(config, data=(str(wide),), val_data=()))


# ------------------------------------------------------------------------------------------ evaluation


def test_runs_made_before_there_was_a_limit_validate_on_all_tokens():
    assert "eval_tokens" not in as_made("model", {})
    assert as_made("training", {"seed": 3}) == {"eval_tokens": 0, "seed": 3}
    assert as_made("training", {"eval_tokens": 7}) == {"eval_tokens": 7}


def test_metrics_without_bits_per_byte_are_read(tmp_path):
    """As released versions wrote them, and mixed with those of today."""
    rows = [{"kind": "eval", "step": step, "val_loss": 1.0, "val_perplexity": 2.0} for step in (1, 2)]
    rows[1]["val_bits_per_byte"] = 1.5
    (tmp_path / "m").write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = MetricsLog(tmp_path / "m", last_step=2)
    assert log.rows == rows and not log.unreadable
    np.testing.assert_array_equal(log.columns("eval")["val_bits_per_byte"], [np.nan, 1.5])
    rows[1]["val_bits_per_byte"] = "many"
    (tmp_path / "m").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert MetricsLog(tmp_path / "m", last_step=2).unreadable == 1
