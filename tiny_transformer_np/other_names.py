"""Names that other programs have for settings, and what they are here: for the hints of flags and of config files."""

import re
from collections.abc import Callable, Mapping, Sequence

#: {a name of another trainer: "setting", "setting: a note", or ": a note" where there is no such setting}
NAMES = {
    # nanoGPT, minGPT
    "max_iters": "max_steps",
    "lr_decay_iters": "max_steps: the learning rate falls up to there",
    "decay_lr": "min_lr: a min_lr of learning_rate keeps it constant",
    "block_size": "seq_len",
    "warmup_iters": "warmup_steps",
    "gradient_accumulation_steps": "grad_accumulation_steps",
    "eval_iters": "eval_tokens: tokens, not batches",
    "eval_only": "resume: with --max-steps 0 a run stays as it is; metrics.jsonl has its evaluations",
    "always_save_checkpoint": "save_interval: the best and the latest checkpoint are always kept",
    "init_from": "resume",
    "dataset": "data",
    "beta1": "betas: two numbers",
    "beta2": "betas: two numbers",
    "grad_norm_clip": "grad_clip",
    "compile": ": the kernels are compiled on their first use",
    "wandb_log": ": a run's folder has metrics.jsonl and loss.png",
    "wandb_project": ": a run's folder has metrics.jsonl and loss.png",
    "wandb_run_name": "out_dir",
    "max_epochs": "epochs",
    # llm.c, nanochat
    "input_bin": "data",
    "input_val_bin": "val_data",
    "sequence_length": "seq_len",
    "max_seq_len": "seq_len",
    "num_iterations": "max_steps",
    "total_batch_size": "grad_accumulation_steps: batches of batch_size windows an update",
    "device_batch_size": "batch_size",
    "learning_rate_decay_frac": "min_lr: a learning rate, not a share of it",
    "final_lr_frac": "min_lr: a learning rate, not a share of it",
    "warmup_ratio": "warmup_steps: a number of steps",
    "val_loss_every": "eval_interval",
    "val_max_steps": "eval_tokens: tokens, not batches",
    "eval_every": "eval_interval",
    "sample_every": "eval_interval: each evaluation writes a sample of sample_tokens",
    "save_every": "save_interval",
    "overfit_single_batch": "overfit_one_batch",
    "depth": "n_layer",
    "embedding_lr": "learning_rate: one for all weights",
    "matrix_lr": "learning_rate: one for all weights",
    "device_type": "device",
    # Hugging Face's Trainer and models, Lightning
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "per_device_eval_batch_size": ": evaluations choose their batches themselves",
    "train_batch_size": "batch_size",
    "output_dir": "out_dir",
    "lr_scheduler_type": ": always a warm-up and a cosine decay, of warmup_steps and min_lr",
    "max_grad_norm": "grad_clip",
    "gradient_clip_val": "grad_clip",
    "accumulate_grad_batches": "grad_accumulation_steps",
    "adam_beta1": "betas: two numbers",
    "adam_beta2": "betas: two numbers",
    "adam_epsilon": "eps",
    "logging_steps": "log_interval",
    "eval_steps": "eval_interval",
    "save_steps": "save_interval",
    "resume_from_checkpoint": "resume",
    "dataloader_num_workers": "num_workers",
    "train_file": "data",
    "validation_file": "val_data",
    "dataset_name": "data: files or folders; no data set is downloaded",
    "text_column": "field",
    "text_column_name": "field",
    "tokenizer_name": "tokenizer",
    "config_name": "config",
    "model_name_or_path": "resume: a run of this program",
    "bf16": "dtype: bfloat16",
    "fp16": "dtype: bfloat16 or float32",
    "precision": "dtype",
    "use_cpu": "device",
    "no_cuda": "device",
    "max_seq_length": "seq_len",
    "max_length": "seq_len",
    "model_max_length": "seq_len",
    "max_position_embeddings": "seq_len",
    "n_positions": "seq_len",
    "n_ctx": "seq_len",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "hidden_size": "n_embd",
    "tie_word_embeddings": "tie_weights",
    # what people type
    "lr": "learning_rate",
    "bs": "batch_size",
    "batch": "batch_size",
    "ctx": "seq_len",
    "context": "seq_len",
    "context_len": "seq_len",
    "context_length": "seq_len",
    "steps": "max_steps",
    "iters": "max_steps",
    "iterations": "max_steps",
    "epoch": "epochs",
    "wd": "weight_decay",
    "clip": "grad_clip",
    "warmup": "warmup_steps",
    "lr_min": "min_lr",
    "scheduler": ": always a warm-up and a cosine decay, of warmup_steps and min_lr",
    "optimizer": ": always AdamW",
    "layers": "n_layer",
    "num_layers": "n_layer",
    "heads": "n_head",
    "num_heads": "n_head",
    "d_model": "n_embd",
    "embed_dim": "n_embd",
    "hidden_dim": "n_embd",
    "dim": "n_embd",
    "width": "n_embd",
    "workers": "num_workers",
    "num_threads": "threads",
    "file": "data",
    "input": "data",
    "text": "data",
    "train_data": "data",
    "val": "val_data",
    "val_split": ": the last tenth of the data validates, or what val_data names",
    "valid_data": "val_data",
    "validation_data": "val_data",
    "vocab": "vocab_size",
    "weight_tying": "tie_weights",
    "output": "out_dir",
    "out": "out_dir",
    "gpu": "device: cuda",
    "cuda": "device: cuda",
    "checkpoint": "resume",
    "continue": "resume",
    "amp": "dtype: bfloat16",
}

#: the same for the sampling command: nanoGPT's sample.py and Hugging Face's generate
SAMPLING_NAMES = {
    "max_new_tokens": "tokens",
    "max_tokens": "tokens",
    "max_length": "tokens",
    "num_tokens": "tokens",
    "num_samples": ": one text a call, another one with another --seed",
    "num_return_sequences": ": one text a call, another one with another --seed",
    "start": "prompt",
    "text": "prompt",
    "input": "prompt",
    "temp": "temperature",
    "do_sample": "greedy: else tokens are drawn",
    "num_beams": ": tokens are drawn one after another, or --greedy",
    "out_dir": ": the run is given without a flag",
    "checkpoint": ": the run, or a checkpoint of it, is given without a flag",
    "model": ": the run is given without a flag",
    "init_from": ": the run is given without a flag",
    "device": ": it computes on the CPU",
}


def as_flag(name: str) -> str:
    """`n_layer` as it is spelled on the command line."""
    return "--" + name.replace("_", "-")


def _parts(name: str, spelled: Callable[[str], str], names: Mapping[str, str]) -> tuple[str, str] | None:
    """(the setting here, a note), either may be ""; None if no other program is known to have that name."""
    here = names.get(name.lower().replace("-", "_"))
    if here is None:
        return None
    name, _, note = here.partition(": ") if not here.startswith(": ") else ("", "", here[2:])
    note = re.sub(r"\b[a-z]+(_[a-z]+)+\b", lambda word: spelled(word[0]), note)
    return spelled(name) if name else "", note


def name_here(name: str, spelled: Callable[[str], str], names: Mapping[str, str] = NAMES) -> str:
    """The end of a message about a setting that has another name here; "" if no trainer is known to have that name.

    spelled: how a setting is written where the message is about; names: as NAMES.
    """
    match _parts(name, spelled, names):
        case None:
            return ""
        case "", note:
            return f"; there is no such setting: {note}"
        case setting, note:
            return f"; it is called {setting} here" + (f": {note}" if note else "")


def names_here(flags: Sequence[str]) -> str:
    """`; --block_size is --seq-len, --compile does not exist`: of the flags among these that other trainers have."""
    found = {flag: _parts(flag.lstrip("-"), as_flag, NAMES) for flag in flags}
    told = [f"{flag} {f'is {parts[0]}' if parts[0] else 'does not exist'}" for flag, parts in found.items() if parts]
    return f"; {', '.join(told)}" if told else ""
