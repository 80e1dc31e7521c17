"""Where trained networks and compiled programs are kept between commands."""

from __future__ import annotations

import os
from pathlib import Path


def checkpoints() -> Path:
    """The folder `RAINPP_CHECKPOINTS` names, otherwise one in the project."""
    named = os.environ.get("RAINPP_CHECKPOINTS")
    return Path(named) if named else Path(__file__).parents[2] / "build" / "checkpoints"


def keep_programs() -> None:
    """Read programs compiled before from disk: models of a sweep differ in numbers only.

    For processes whose times no figure shows, before anything is compiled. A small CNN after
    another took 28 s instead of 41, the first one of another process 26 instead of 51 (two cores).
    """
    import jax

    jax.config.update("jax_compilation_cache_dir", str(checkpoints() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
