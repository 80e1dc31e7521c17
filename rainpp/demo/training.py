"""The demo's model: softmax regression, trained to an optimum by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

L2 = 3e-3


def apply(params: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
    """Softmax regression: logits (batch, 10)."""
    return inputs @ params["weights"] + params["bias"][None, :]


def make_fit() -> Callable[[Any, np.ndarray], dict[str, jax.Array]]:
    """The training that makes every model here: L-BFGS to an optimum, compiled once."""
    start = {"weights": jnp.zeros((64, 10), jnp.float32), "bias": jnp.zeros(10, jnp.float32)}
    optimizer = optax.lbfgs()

    @jax.jit
    def fit(inputs: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
        def objective(params: dict[str, jax.Array]) -> jax.Array:
            losses = optax.softmax_cross_entropy_with_integer_labels(apply(params, inputs), labels)
            return jnp.mean(losses) + 0.5 * L2 * optax.tree.norm(params, squared=True)

        value_and_grad = optax.value_and_grad_from_state(objective)

        def unfinished(carry: tuple[Any, Any, jax.Array]) -> jax.Array:
            _, state, norm = carry
            steps = optax.tree.get(state, "count")
            return (steps < 500) & (norm > 1e-5)

        def step(carry: tuple[Any, Any, jax.Array]) -> tuple[Any, Any, jax.Array]:
            params, state, _ = carry
            value, grad = value_and_grad(params, state=state)
            updates, state = optimizer.update(
                grad, state, params, value=value, grad=grad, value_fn=objective
            )
            return optax.apply_updates(params, updates), state, optax.tree.norm(grad)

        first = (start, optimizer.init(start), jnp.asarray(jnp.inf, jnp.float32))
        return jax.lax.while_loop(unfinished, step, first)[0]

    def run(inputs: Any, labels: np.ndarray) -> dict[str, jax.Array]:
        # optax keeps L-BFGS' memory in JAX's default float, which must be the parameters' float32.
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
            return fit(jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.int32))

    return run
