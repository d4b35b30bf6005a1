"""The published Diffusion Transformer and its training step as functions of JAX arrays.

`weights` is the published state dict as a flat dictionary; letters are those of network.py.
"""

import jax
import jax.numpy as jnp


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def modulated_norm(x, shift, scale):
    centred = x - x.mean(-1, keepdims=True)
    normal = centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return normal * (1 + scale[:, None]) + shift[:, None]


def attention(weights, name, x, heads):
    samples, tokens, hidden = x.shape
    qkv = linear(weights, f"{name}.qkv", x).reshape(samples, tokens, 3, heads, hidden // heads)
    h = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])  # (N, L, heads, D/heads)
    return linear(weights, f"{name}.proj", h.reshape(samples, tokens, hidden))


def mlp(weights, name, x):
    return linear(weights, f"{name}.fc2", jax.nn.gelu(linear(weights, f"{name}.fc1", x), approximate=True))


def block(weights, name, x, c, heads):
    modulation = linear(weights, f"{name}.adaLN_modulation.1", jax.nn.silu(c))
    shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = jnp.split(modulation, 6, axis=1)
    x = x + gate_msa[:, None] * attention(weights, f"{name}.attn", modulated_norm(x, shift_msa, scale_msa), heads)
    return x + gate_mlp[:, None] * mlp(weights, f"{name}.mlp", modulated_norm(x, shift_mlp, scale_mlp))


def conditioning(weights, t, y):
    frequencies = jnp.exp(-jnp.log(10000.0) / 128 * jnp.arange(128, dtype=jnp.float32))
    angles = t[:, None] * frequencies
    h = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)
    h = linear(weights, "t_embedder.mlp.2", jax.nn.silu(linear(weights, "t_embedder.mlp.0", h)))
    return h + weights["y_embedder.embedding_table.weight"][y]


def patches(x, size):
    """(N, C, H, W) -> (N, L, C P P), in the order channel, row, column."""
    samples, channels, height, width = x.shape
    x = x.reshape(samples, channels, height // size, size, width // size, size).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(samples, -1, channels * size * size)


def forward(weights, config, x, t, y):
    """(x (N, C, H, W), t (N), y (N)) -> (N, C', H, W)."""
    size, hidden = config["patch"], config["hidden"]
    rows, columns = (side // size for side in config["input"])
    embedding = weights["x_embedder.proj.weight"].reshape(hidden, -1)
    x = patches(x, size) @ embedding.T + weights["x_embedder.proj.bias"] + weights["pos_embed"]  # (N, L, D)
    c = conditioning(weights, t, y)
    for index in range(config["depth"]):
        x = block(weights, f"blocks.{index}", x, c, config["heads"])
    shift, scale = jnp.split(linear(weights, "final_layer.adaLN_modulation.1", jax.nn.silu(c)), 2, axis=1)
    x = linear(weights, "final_layer.linear", modulated_norm(x, shift, scale))  # (N, L, P P C'), row, column, channel
    x = x.reshape(len(x), rows, columns, size, size, -1).transpose(0, 5, 1, 3, 2, 4)
    return x.reshape(len(x), -1, rows * size, columns * size)


def loss(trained, fixed, config, inputs):
    output = forward(trained | fixed, config, inputs["x"], inputs["t"], inputs["y"])
    return ((output[:, : config["channels"]] - inputs["target"]) ** 2).mean()


def adamw(weight, gradient, first, second, step, rate=1e-4, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.05):
    """One tensor's (weight, first moment, second moment) after the step of this number, counted from 1."""
    first = beta1 * first + (1 - beta1) * gradient
    second = beta2 * second + (1 - beta2) * gradient**2
    direction = first / (1 - beta1**step) / (jnp.sqrt(second / (1 - beta2**step)) + epsilon)
    return weight * (1 - rate * decay) - rate * direction, first, second


def training_step(state, fixed, config, inputs):
    """state (weights, first moments, second moments, steps done) -> (the next state, the loss before it)."""
    trained, first, second, step = state
    value, gradients = jax.value_and_grad(loss)(trained, fixed, config, inputs)
    step = step + 1
    moved = {name: adamw(trained[name], gradients[name], first[name], second[name], step) for name in trained}
    parts = ({name: moved[name][part] for name in moved} for part in range(3))
    return (*parts, step), value
