"""Settings of every test: 64-bit strict arithmetic, a fresh home, reproducible examples."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Workers and the processes that tests start find compiled what another one has compiled: set before
# JAX is imported, and gone with the run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.mkdtemp(prefix="rainpp-tests-")
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": _compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)

import hypothesis
import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# No deadline: the first example of a jitted function pays for its compilation.
hypothesis.settings.register_profile("dev", max_examples=25, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure(config):
    """Have XLA optimise little in the quick tests: most of their time is compiling.

    What they compile runs for moments. Slow tests and timings compile as users do; flags of one's
    own are left as they are; child processes inherit these.
    """
    if "not slow" in config.option.markexpr:
        os.environ.setdefault(
            "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
        )


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """A home of this test's own: nothing is read from or left in the user's."""
    path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(path / ".cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(path / ".config"))
    return path
