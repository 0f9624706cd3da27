"""TransformerLM: a decoder-only transformer in GPT-2's shape, layer norms in front of each part.

Radford et al. 2019, "Language models are unsupervised multitask learners". Letters in shapes: B batch,
T time, C = n_embd channels, V vocabulary.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels.arrays import Array, Shape
from minigrad import functional as F
from minigrad import random
from minigrad._tensor import Tensor
from minigrad.argument_types import TensorLike
from minigrad.nn import Dropout, Embedding, LayerNorm, Linear, Module, ModuleList
from tiny_transformer_np.config import TransformerConfig

INIT_STD = 0.02  # of every weight matrix, as in GPT-2
FIRST_POSITIONS = 4096  # whose sinusoids are made at once; those of others when they are used
LARGE_VOCABULARY = 4096  # from here on the logits of a batch are never held all at once


class CausalSelfAttention(Module):
    """Every position gathers from itself and from those before it. (B, T, C) -> (B, T, C)."""

    def __init__(self, config: TransformerConfig) -> None:
        self.qkv = Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.proj = Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.n_head, self.p = config.n_head, config.dropout

    def forward(self, x: Tensor) -> Tensor:
        dropout = (self.p, *random.next_stream()) if self.training and self.p else ()
        return self.proj(F.causal_self_attention(self.qkv(x), self.n_head, *dropout))


class MLP(Module):
    """Each position by itself: four times as wide, GELU, and back. (B, T, C) -> (B, T, C)."""

    def __init__(self, config: TransformerConfig) -> None:
        self.fc = Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.proj = Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.gelu = config.gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(F.gelu(self.fc(x), self.gelu))


class Block(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). (B, T, C) -> (B, T, C)."""

    def __init__(self, config: TransformerConfig) -> None:
        self.ln1 = LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln2 = LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attn(self.ln1(x)))
        return x + self.dropout(self.mlp(self.ln2(x)))


class Head(Linear):
    """Features (..., C) -> logits (..., V), or their cross-entropy; see `logits_or_loss`."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config.n_embd, config.vocab_size, bias=False)

    def forward(self, input: TensorLike, targets: Array | Tensor | None = None, **how: Any) -> Tensor:
        return logits_or_loss(input, self.weight, targets, **how)


def logits_or_loss(
    x: TensorLike,
    weight: Tensor,
    targets: Array | Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    grad_scale: float = 1.0,
) -> Tensor:
    """Logits x @ weight.T, or with targets their cross-entropy (). x (..., C), weight (V, C), targets (...).

    grad_scale: the upstream gradient that backward will begin with. To know it in forward saves time where one node,
    `linear_cross_entropy`, does both.
    """
    if targets is not None and weight.shape[0] >= LARGE_VOCABULARY:
        return F.linear_cross_entropy(
            x, weight, targets, ignore_index=ignore_index, reduction=reduction, grad_scale=grad_scale
        )
    logits = F.linear(x, weight)
    return logits if targets is None else F.softmax_cross_entropy(logits, targets, ignore_index, reduction)


class TransformerLM(Module):
    """Token ids (B, T) -> logits (B, T, V) of the token that comes next, or the loss. config: TransformerConfig.

    Weights are drawn from `minigrad.random`: after `random.seek(seed)` they are the same every time.
    """

    def __init__(self, config: TransformerConfig) -> None:
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.n_embd)
        if config.positions == "learned":
            self.position_embedding = Embedding(config.block_size, config.n_embd)
        else:
            self.sinusoids = sinusoids(min(config.block_size, FIRST_POSITIONS), config.n_embd)
        self.dropout = Dropout(config.dropout)
        self.blocks = ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_final = LayerNorm(config.n_embd, bias=config.bias)
        self.head = None if config.tie_weights else Head(config)
        self._draw_weights()

    def _draw_weights(self) -> None:
        # each of the 2 n_layer residual branches adds its variance to the stream; keep their sum at one
        residual_std = INIT_STD / math.sqrt(2 * self.config.n_layer)
        for path, module in self.named_modules():
            if isinstance(module, (Linear, Embedding)):
                std = residual_std if path.endswith(".proj") else INIT_STD
                module.weight.data[...] = random.normal(0.0, std, module.weight.shape)
            if isinstance(module, Linear) and module.bias is not None:
                module.bias.data[...] = 0.0

    def forward(
        self, ids: Array | Tensor, targets: Array | Tensor | None = None, last_only: bool = False, **how: Any
    ) -> Tensor:
        """Logits (B, T, V), or with targets (B, T) their cross-entropy (), whatever the size of the vocabulary.

        last_only: logits (B, 1, V) of the last position alone, which is all that generation needs.
        how: ignore_index, reduction and grad_scale of `logits_or_loss`.
        """
        x = self.features(ids, last_only)
        if self.head is None:
            return logits_or_loss(x, self.token_embedding.weight, targets, **how)
        return self.head(x, targets, **how)

    def features(self, ids: Array | Tensor, last_only: bool = False) -> Tensor:
        """The input of the head: (B, T, C), or (B, 1, C)."""
        T = ids.shape[1]
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens do not fit the model's context of {self.config.block_size}")
        x = self.token_embedding(ids) + self._positions(T)  # (B, T, C) + (T, C)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.ln_final(x[:, -1:] if last_only else x)

    def _positions(self, T: int) -> Tensor:
        if self.config.positions == "learned":
            return self.position_embedding(np.arange(T))
        if len(self.sinusoids) < T:
            self.sinusoids = sinusoids(min(2 * T, self.config.block_size), self.config.n_embd)
        weight = self.token_embedding.weight.data
        return Tensor(np.asarray(self.sinusoids[:T], dtype=weight.dtype, like=weight))


def parameter_shapes(config: TransformerConfig) -> Iterator[tuple[str, Shape]]:
    """(name, shape) of every parameter of `TransformerLM(config)`, one after another, without making any."""
    C, V = config.n_embd, config.vocab_size

    def layer(name: str, *shape: int) -> Iterator[tuple[str, Shape]]:
        yield f"{name}.weight", shape
        if config.bias:
            yield f"{name}.bias", shape[:1]

    yield "token_embedding.weight", (V, C)
    if config.positions == "learned":
        yield "position_embedding.weight", (config.block_size, C)
    for block in (f"blocks.{i}" for i in range(config.n_layer)):
        yield from layer(f"{block}.ln1", C)
        yield from layer(f"{block}.attn.qkv", 3 * C, C)
        yield from layer(f"{block}.attn.proj", C, C)
        yield from layer(f"{block}.ln2", C)
        yield from layer(f"{block}.mlp.fc", 4 * C, C)
        yield from layer(f"{block}.mlp.proj", C, 4 * C)
    yield from layer("ln_final", C)
    if not config.tie_weights:
        yield "head.weight", (V, C)


def sinusoids(block_size: int, n_embd: int) -> Array:
    """Sines and cosines of geometrically spaced wavelengths (Vaswani et al. 2017, 3.5) -> (block_size, n_embd).

    Scaled to the size that learned positions start with, so that neither drowns the tokens.
    """
    frequency = 10000.0 ** (-np.arange(0, n_embd, 2) / n_embd)
    angle = np.arange(block_size)[:, None] * frequency
    table = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(block_size, n_embd)
    return (table * (INIT_STD * math.sqrt(2.0))).astype(np.float32)
