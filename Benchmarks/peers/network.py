"""The published Diffusion Transformer in plain PyTorch, as a user would write it: the peer that the others are checked by.

Letters: N samples, C channels, H and W input size, P patch size, L = (H/P)(W/P) tokens, D hidden size, C' output channels.
Parameter names are the published ones, so a published state dict loads with `load_state_dict`.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-6  # of every LayerNorm


class PatchEmbedding(nn.Module):
    def __init__(self, config):
        super().__init__()
        patch = config["patch"]
        self.proj = nn.Conv2d(config["channels"], config["hidden"], patch, stride=patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)  # (N, L, D)


class TimeEmbedding(nn.Module):
    """An MLP over [cos(t f) | sin(t f)], f falling from 1 to 1/10000 in 128 steps."""

    def __init__(self, hidden):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, t):
        frequencies = torch.exp(-math.log(10000.0) / 128 * torch.arange(128, dtype=torch.float32))
        angles = t[:, None] * frequencies  # (N, 128)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))  # (N, D)


class LabelEmbedding(nn.Module):
    """A table with one row a class and a last one for "no class"."""

    def __init__(self, classes, hidden):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, hidden)

    def forward(self, y):
        return self.embedding_table(y)  # (N, D)


class Attention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x):
        samples, tokens, hidden = x.shape
        qkv = self.qkv(x).reshape(samples, tokens, 3, self.heads, hidden // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (N, heads, L, D/heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return self.proj(h.transpose(1, 2).reshape(samples, tokens, hidden))  # (N, L, D)


class MLP(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.fc1 = nn.Linear(hidden, 4 * hidden)
        self.fc2 = nn.Linear(4 * hidden, hidden)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))  # (N, L, D)


def modulated_norm(x, shift, scale):
    """LN(x) (1 + scale) + shift, with one shift and one scale a sample."""
    x = F.layer_norm(x, x.shape[-1:], eps=EPSILON)
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """Attention and MLP, each modulated before and gated after by the conditioning c: adaLN-Zero."""

    def __init__(self, hidden, heads):
        super().__init__()
        self.attn = Attention(hidden, heads)
        self.mlp = MLP(hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 6 * hidden))

    def forward(self, x, c):
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate_msa[:, None] * self.attn(modulated_norm(x, shift_msa, scale_msa))
        return x + gate_mlp[:, None] * self.mlp(modulated_norm(x, shift_mlp, scale_mlp))  # (N, L, D)


class FinalLayer(nn.Module):
    def __init__(self, hidden, outputs):
        super().__init__()
        self.linear = nn.Linear(hidden, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))

    def forward(self, x, c):
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulated_norm(x, shift, scale))  # (N, L, P P C')


class DiT(nn.Module):
    """(x (N, C, H, W), t (N), y (N)) -> (N, C', H, W)."""

    def __init__(self, config):
        super().__init__()
        hidden, patch = config["hidden"], config["patch"]
        self.patch = patch
        self.rows, self.columns = (size // patch for size in config["input"])
        self.out_channels = config["channels"] * (2 if config["learn_sigma"] else 1)
        positions = torch.zeros(1, self.rows * self.columns, hidden)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.x_embedder = PatchEmbedding(config)
        self.t_embedder = TimeEmbedding(hidden)
        self.y_embedder = LabelEmbedding(config["classes"], hidden)
        self.blocks = nn.ModuleList(Block(hidden, config["heads"]) for _ in range(config["depth"]))
        self.final_layer = FinalLayer(hidden, patch * patch * self.out_channels)

    def forward(self, x, t, y):
        x = self.x_embedder(x) + self.pos_embed  # (N, L, D)
        c = self.t_embedder(t) + self.y_embedder(y)  # (N, D)
        for block in self.blocks:
            x = block(x, c)
        return self.unpatchify(self.final_layer(x, c))

    def unpatchify(self, x):
        """(N, L, P P C') -> (N, C', H, W): a token's outputs are in the order row, column, channel."""
        patch, channels = self.patch, self.out_channels
        x = x.reshape(-1, self.rows, self.columns, patch, patch, channels)
        x = x.permute(0, 5, 1, 3, 2, 4)  # (N, C', rows, P, columns, P)
        return x.reshape(-1, channels, self.rows * patch, self.columns * patch)
