"""Memory of curvature products and projections of the WRN-26, with and without rematerialisation.

python -m experiments.remat [--blocks 4] [--batch 32] [--k 10]

What XLA allocates beside arguments and results, from `compiled.memory_analysis()`: nothing is run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments import results
from experiments.nets import WideResNet, WideResNetShape
from rainpp.model import Model

Function = Callable[..., Any]


def save_products(primitive: Any, *_args: Any, **_settings: Any) -> bool:
    """Keep what convolutions and matrix products give; compute norms and ReLUs again."""
    return primitive.name in ("conv_general_dilated", "dot_general")


POLICIES: dict[str, Any] = {
    "products saved": save_products,
    "nothing saved": jax.checkpoint_policies.nothing_saveable,
}


def wrn(blocks: int, *, remat: bool = False) -> Model:
    """The model at its initial weights."""
    return Model.from_flax(
        WideResNet(WideResNetShape(blocks=blocks, remat=remat), rngs=nnx.Rngs(0))
    )


def hvp(outputs: Function, of_row: Function, theta: Any, v: Any, rows: Any) -> Any:
    """Σ over the batch of ∇²ℓ v, forward over reverse as in `rainpp.lanczos.curvature`."""
    images, labels = rows
    loss = lambda t: jax.vmap(of_row)(outputs(t, images), labels).sum()  # noqa: E731
    return jax.jvp(jax.grad(loss), (theta,), (v,))[1]


def linearized(outputs: Function, of_row: Function, theta: Any, v: Any, rows: Any) -> Any:
    """Gradients projected on the rows of v as in `rainpp.lanczos.projection`."""
    images, labels = rows
    values, along = jax.linearize(lambda t: outputs(t, images), theta)
    slopes = jax.vmap(jax.grad(of_row))(values, labels)
    return jnp.einsum("bw,kbw->bk", slopes, jax.vmap(along)(v))


def forward(outputs: Function, of_row: Function, theta: Any, v: Any, rows: Any) -> Any:
    """The same, with tangents going along with the primal pass: nothing is kept for later."""
    images, labels = rows
    push = lambda w: jax.jvp(lambda t: outputs(t, images), (theta,), (w,))  # noqa: E731
    values, tangents = jax.vmap(push, out_axes=(None, 0))(v)
    slopes = jax.vmap(jax.grad(of_row))(values, labels)
    return jnp.einsum("bw,kbw->bk", slopes, tangents)


def variants(blocks: int) -> Iterator[tuple[str, Function, Function, Model]]:
    """Name, computation, outputs function and model of everything that is measured."""
    plain = wrn(blocks)
    outputs = plain.network.outputs
    for name, function in (("hvp", hvp), ("linearize", linearized), ("jvp", forward)):
        yield name, function, outputs, plain
    for name, policy in POLICIES.items():
        wrapped = jax.checkpoint(outputs, policy=policy)
        yield f"hvp, {name}", hvp, wrapped, plain
    by_block = wrn(blocks, remat=True)
    yield "hvp, remat of each block", hvp, by_block.network.outputs, by_block


def measure(name: str, function: Function, model: Model, sizes: tuple[int, int]) -> dict[str, Any]:
    """Temporary bytes and FLOPs of one compiled batch."""
    batch, k = sizes
    theta = jax.ShapeDtypeStruct(model.theta.shape, jnp.float32)
    v = theta if "hvp" in name else jax.ShapeDtypeStruct((k, model.num_params), jnp.float32)
    images = jax.ShapeDtypeStruct((batch, 32, 32, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    compiled = jax.jit(function).lower(theta, v, (images, labels)).compile()
    costs: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    return {
        "name": name,
        "temporary_mb": round(memory.temp_size_in_bytes / 1e6, 1),
        "gflop": round(costs["flops"] / 1e9, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--k", type=int, default=10)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, function, outputs, model in variants(asked.blocks):
        bound = partial(function, outputs, model.criterion.of_row)
        rows.append(measure(name, bound, model, (asked.batch, asked.k)))
        print(f"{rows[-1]['name']:28} {rows[-1]['temporary_mb']:9} MB {rows[-1]['gflop']:9} GFLOP")
    command = "python -m experiments.remat"
    results.save("remat", command=command, settings=vars(asked), runs=rows)


if __name__ == "__main__":
    main()
