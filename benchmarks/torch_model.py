"""The same model in PyTorch, written as its users write it, for comparison."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        C, bias = config.n_embd, config.bias
        self.ln1, self.ln2 = nn.LayerNorm(C, bias=bias), nn.LayerNorm(C, bias=bias)
        self.qkv, self.proj = nn.Linear(C, 3 * C, bias=bias), nn.Linear(C, C, bias=bias)
        self.fc, self.mlp_proj = nn.Linear(C, 4 * C, bias=bias), nn.Linear(4 * C, C, bias=bias)
        self.n_head, self.p, self.gelu = config.n_head, config.dropout, config.gelu
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, self.n_head, -1).transpose(1, 2) for t in self.qkv(self.ln1(x)).split(C, dim=2))
        p = self.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        x = x + self.dropout(self.proj(attended.transpose(1, 2).reshape(B, T, C)))
        return x + self.dropout(self.mlp_proj(F.gelu(self.fc(self.ln2(x)), approximate=self.gelu)))


class TorchTransformer(nn.Module):
    """TransformerLM in PyTorch; config is a TransformerConfig with learned positions."""

    def __init__(self, config):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_final = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.token_embedding.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = name.endswith("proj.weight")
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.n_layer) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids, targets):
        x = self.dropout(self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]])
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln_final(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def make_step(config, training, ids, targets, device="cpu", compiled=False, autocast=False):
    """A function that performs one training step and returns the loss.

    compiled: by torch.compile, else eager. autocast: products in bfloat16.
    """
    model = TorchTransformer(config).to(device)
    decay = [p for name, p in model.named_parameters() if p.ndim == 2 and "embedding" not in name]
    keep = [p for name, p in model.named_parameters() if p.ndim != 2 or "embedding" in name]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": training.weight_decay}, {"params": keep, "weight_decay": 0.0}],
        lr=training.learning_rate, betas=training.betas, fused=True,
    )  # fmt: skip
    ids, targets = torch.from_numpy(ids).to(device), torch.from_numpy(targets).to(device)
    forward = torch.compile(model) if compiled else model

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            loss = forward(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step
