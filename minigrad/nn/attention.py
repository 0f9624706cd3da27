"""MultiheadAttention with PyTorch's arguments and names of parameters."""

import math

import numpy as np

from minigrad import functional as F
from minigrad import random
from minigrad._tensor import Tensor, as_tensor
from minigrad.argument_types import Shape, TensorLike
from minigrad.nn.layers import Linear
from minigrad.nn.module import Module, Parameter
from minigrad.ops.attention import add_mask
from minigrad.ops.nn import refuse


class MultiheadAttention(Module):
    """Attention of num_heads heads between projections of query, key and value. Vaswani et al. 2017.

    embed_dim   of query and output, E; kdim and vdim of key and value, E unless given
    dropout     probability that an attention weight is dropped while training
    batch_first whether arrays are (N, T, E) instead of (T, N, E)

    The arguments add_bias_kv and add_zero_attn of PyTorch are refused. Input weights are drawn as Glorot & Bengio 2010.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        refuse("MultiheadAttention", add_bias_kv=add_bias_kv, add_zero_attn=add_zero_attn)
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: {embed_dim} features do not divide into {num_heads} heads")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = _glorot(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight, self.k_proj_weight, self.v_proj_weight = (
                _glorot(embed_dim, size) for size in (embed_dim, self.kdim, self.vdim)
            )
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, np.float32)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data[...] = 0.0

    def forward(
        self,
        query: TensorLike,
        key: TensorLike,
        value: TensorLike,
        key_padding_mask: TensorLike | None = None,
        need_weights: bool = True,
        attn_mask: TensorLike | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """-> (output, weights). query (N, T, E), key (N, S, kdim), value (N, S, vdim), or without N, or as
        batch_first says -> (N, T, E), and the attention weights (N, T, S) or None.

        key_padding_mask      (N, S): True hides a key, floats are added to its scores
        attn_mask             (T, S) or (N * num_heads, T, S), of the same kinds
        need_weights          False: no weights are returned, and no array (T, S) need be held
        average_attn_weights  False: weights (N, num_heads, T, S)
        is_causal             says that attn_mask is the causal mask, which must be given; as in PyTorch
        """
        if is_causal and attn_mask is None:
            raise ValueError("MultiheadAttention: is_causal needs the attn_mask, which it says is the causal one")
        tensors = [as_tensor(x) for x in (query, key, value)]
        is_batch = tensors[0].ndim == 3
        q, k, v = (self._heads(*x) for x in zip("qkv", self._batch_first(*tensors), strict=True))
        mask = self._mask(q, k, attn_mask, key_padding_mask)
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = F.matmul(q, F.swapaxes(k, -1, -2)) * (1.0 / math.sqrt(q.shape[-1]))  # (N, H, T, S)
            weights = F.dropout(F.softmax(scores if mask is None else scores + mask, dim=-1), p)
            out = F.matmul(weights, v)
            weights = F.mean(weights, axis=1) if average_attn_weights else weights
        elif is_causal and key_padding_mask is None:
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        N, H, T, D = out.shape
        out = self.out_proj(F.reshape(F.swapaxes(out, 1, 2), (N, T, H * D)))
        if not is_batch:
            return out[0], None if weights is None else weights[0]
        return out if self.batch_first else F.swapaxes(out, 0, 1), weights

    def _batch_first(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """query (N, T, E), key (N, S, kdim), value (N, S, vdim), with the axis N even if it is 1."""
        given = query, key, value
        if not query.ndim == key.ndim == value.ndim or query.ndim not in (2, 3):
            axes = "all of two axes or all of three"
        else:
            batched = [x[None] if x.ndim == 2 else x if self.batch_first else F.swapaxes(x, 0, 1) for x in given]
            q, k, v = (x.shape for x in batched)
            if q[0] == k[0] == v[0] and k[1] == v[1]:
                return batched
            axes = (
                "(N, T, E), (N, S, kdim), (N, S, vdim)" if self.batch_first else "(T, N, E), (S, N, kdim), (S, N, vdim)"
            )
        shapes = ", ".join(str(x.shape) for x in given)
        raise ValueError(f"MultiheadAttention: query, key and value are {shapes}; expected {axes}")

    def _heads(self, which: str, x: Tensor) -> Tensor:
        """The projection of x (N, T, ...) for the heads: (N, H, T, D)."""
        E, part = self.embed_dim, "qkv".index(which)
        rows = slice(part * E, (part + 1) * E)
        separate = "q_proj_weight" in vars(self)
        weight = getattr(self, f"{which}_proj_weight") if separate else self.in_proj_weight[rows]
        x = F.linear(x, weight, None if self.in_proj_bias is None else self.in_proj_bias[rows])
        return F.swapaxes(F.reshape(x, (*x.shape[:2], self.num_heads, E // self.num_heads)), 1, 2)

    def _mask(
        self, q: Tensor, k: Tensor, attn_mask: TensorLike | None, key_padding_mask: TensorLike | None
    ) -> Tensor | None:
        """Both masks as one array to be added to the scores (N, H, T, S), or None."""
        if attn_mask is None and key_padding_mask is None:
            return None
        (N, H, T), S = q.shape[:3], k.shape[2]
        mask = Tensor(np.zeros((1, 1, T, S), q.dtype, like=q.data))
        if attn_mask is not None:
            attn_mask = _of_shape("attn_mask", attn_mask, (T, S), (N * H, T, S))
            shape = (1, 1, T, S) if attn_mask.ndim == 2 else (N, H, T, S)
            mask = add_mask("attn_mask", mask, F.reshape(attn_mask, shape), visible=False)
        if key_padding_mask is not None:
            padding = _of_shape("key_padding_mask", key_padding_mask, (N, S), *([(S,)] if N == 1 else []))
            mask = add_mask("key_padding_mask", mask, F.reshape(padding, (N, 1, 1, S)), visible=False)
        return mask

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"


def _of_shape(name: str, mask: TensorLike, *shapes: Shape) -> Tensor:
    """The mask, if it has one of these shapes: another one of as many elements would hide other keys."""
    mask = as_tensor(mask)
    if mask.shape not in shapes:
        expected = " or ".join(map(str, shapes))
        raise ValueError(f"MultiheadAttention: {name} has shape {mask.shape}, expected {expected}")
    return mask


def _glorot(fan_out: int, fan_in: int) -> Parameter:
    bound = math.sqrt(6.0 / (fan_in + fan_out))
    return Parameter(random.uniform(-bound, bound, (fan_out, fan_in)))
