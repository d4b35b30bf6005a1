"""JAX: the training step in fp32, compiled as a whole; the state's memory is handed from step to step."""

import jax
import jax.numpy as jnp
from safetensors.numpy import load_file

from network_jax import training_step
from worker import Unsupported


def describe():
    return {"version": jax.__version__, "detail": {"devices": " ".join(str(device) for device in jax.devices())}}


def prepare(work, threads):
    """XLA takes its threads from the environment (NPROC) and the CPUs it may run on: the driver has set both."""
    if (work["kind"], work["precision"], bool(work.get("recompute"))) != ("train", "fp32", False):
        raise Unsupported(f"{work['kind']} {work['precision']}, recompute {work.get('recompute', False)}")
    config = work["config"]
    trained = {name: jnp.asarray(array) for name, array in load_file(work["weights"]).items()}
    fixed = {"pos_embed": trained.pop("pos_embed")}
    inputs = {name: jnp.asarray(array) for name, array in load_file(work["inputs"]).items()}
    zeros = [{name: jnp.zeros_like(array) for name, array in trained.items()} for _ in range(2)]
    state = [(trained, *zeros, jnp.zeros((), jnp.int32))]
    advance = jax.jit(lambda state, fixed, inputs: training_step(state, fixed, config, inputs), donate_argnums=0)

    def step():
        state[0], loss = advance(state[0], fixed, inputs)
        jax.block_until_ready(state[0])
        return float(loss)

    return step
