"""One program over every device JAX sees: rows are divided, parameters and vectors are everywhere.

With one device nothing here does anything. With several, in one process or in many that joined
through `jax.distributed`, each runs its own batches, and sums meet in one all-reduce per product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rainpp.model import Network, batched
from rainpp.types import PyTree

_ROWS = "rows"
_EVERYWHERE, _DIVIDED = PartitionSpec(), PartitionSpec(_ROWS)


def num_devices() -> int:
    """Devices of all processes together."""
    return jax.device_count()


@cache
def _mesh() -> Mesh:
    return Mesh(np.asarray(jax.devices()), (_ROWS,))


def divided(shape: tuple[int, ...], part: Callable[[slice], np.ndarray]) -> jax.Array:
    """An array of `shape` divided over the devices by its first axis.

    `part` reads a slice of that axis; it is asked only for what this process's devices hold.
    """
    if num_devices() == 1:
        return jnp.asarray(part(slice(0, shape[0])))
    # The host's numbers may be wider than JAX's.
    dtype = jax.dtypes.canonicalize_dtype(part(slice(0, 0)).dtype)
    return jax.make_array_from_callback(
        shape,
        NamedSharding(_mesh(), _DIVIDED),
        lambda index: part(_own_rows(index, shape[0])).astype(dtype, copy=False),
    )


def _own_rows(index: tuple[slice, ...] | None, count: int) -> slice:
    start, stop, _ = (index or (slice(None),))[0].indices(count)
    return slice(start, stop)


def everywhere(array: Any) -> jax.Array:
    """The same array on every device; all processes must hold the same."""
    if num_devices() == 1:
        return jnp.asarray(array)
    sharding = NamedSharding(_mesh(), _EVERYWHERE)
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    local = np.asarray(array)
    return jax.make_array_from_callback(local.shape, sharding, lambda index: local[index])


def sum_over_rows(
    network: Network, function: Callable[..., jax.Array], theta: jax.Array, *rest: Any
) -> jax.Array:
    """`function(network, θ, batches, *along)`, a sum over the batches, from all devices.

    The result is on this process's first device.
    """
    if num_devices() == 1:
        return network.jit(function)(theta, *rest)
    batches, *along = rest
    kernel = network.jit(_summed, of=function)
    return kernel(everywhere(theta), batches, *map(everywhere, along)).addressable_data(0)


def _summed(
    network: Network, theta: jax.Array, *rest: Any, of: Callable[..., jax.Array]
) -> jax.Array:
    def own(*arguments: Any) -> jax.Array:
        return jax.lax.psum(network.bound(of)(*arguments), _ROWS)

    specs = (_EVERYWHERE, _DIVIDED, *[_EVERYWHERE] * (len(rest) - 1))
    # check_vma wants every scan in a user's model to be annotated, and would sum gradients itself.
    run = jax.shard_map(own, mesh=_mesh(), in_specs=specs, out_specs=_EVERYWHERE, check_vma=False)
    return run(theta, *rest)


def map_rows(
    kernel: tuple[Network, Callable[..., Any], dict[str, Any]],
    fixed: tuple[Any, ...],
    rows: tuple[PyTree, ...],
    num_rows: int,
    size: int,
) -> Iterator[tuple[Any, slice]]:
    """Results of a kernel for `size` rows a device at a time, on the host, with their place.

    Parameters
    ----------
    kernel : a network, a function of it, `fixed` and `rows`, and settings fixed at compilation.
    fixed : arguments that are the same for all rows.
    rows : arguments with rows first, as are the results.
    """
    network, function, settings = kernel
    if num_devices() == 1:
        run = network.jit(function, **settings)
        for batch, where in batched(rows, num_rows, size):
            yield _on_host(run(*fixed, *batch), where), where
        return
    run = network.jit(_mapped, of=function, fixed=len(fixed), **settings)
    placed = [everywhere(argument) for argument in fixed]
    together = min(size, -(-num_rows // num_devices())) * num_devices()
    for start in range(0, num_rows, together):
        where = slice(start, min(start + together, num_rows))
        batch = jax.tree.map(lambda leaf, at=where: _padded(leaf, at, together), rows)
        yield _on_host(run(*placed, *batch), where), where


def _mapped(
    network: Network,
    *arguments: Any,
    of: Callable[..., Any],
    fixed: int,
    **settings: Any,
) -> Any:
    def own(*mine: Any) -> Any:
        return network.bound(of, **settings)(*mine)

    specs = (*[_EVERYWHERE] * fixed, *[_DIVIDED] * (len(arguments) - fixed))
    run = jax.shard_map(own, mesh=_mesh(), in_specs=specs, out_specs=_DIVIDED, check_vma=False)
    # Every process wants all results: they are small beside what went into them.
    return jax.lax.with_sharding_constraint(run(*arguments), NamedSharding(_mesh(), _EVERYWHERE))


def _padded(leaf: Any, where: slice, size: int) -> jax.Array:
    """Rows `where` of `leaf`, divided over the devices and padded to `size` with its first row."""

    def part(own: slice) -> np.ndarray:
        return padded_rows(leaf, slice(where.start + own.start, where.start + own.stop), where.stop)

    return divided((size, *leaf.shape[1:]), part)


def padded_rows(leaf: Any, where: slice, end: int) -> np.ndarray:
    """Rows `where` of an array that ends at row `end`; beyond that its first row.

    Padding repeats a real row: its loss is finite for every model, where zeros may not be.
    """
    found = np.asarray(leaf[min(where.start, end) : min(where.stop, end)])
    missing = where.stop - where.start - len(found)
    if not missing:
        return found
    return np.concatenate([found, np.repeat(np.asarray(leaf[:1]), missing, axis=0)])


def _on_host(results: Any, where: slice) -> Any:
    count = where.stop - where.start
    return jax.tree.map(lambda part: np.asarray(part)[:count], results)
