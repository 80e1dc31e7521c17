"""The modules of counts and samples stand on NumPy alone."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["reservoir", "buckets", "blend", "outcomes"])
def test_nothing_heavy_is_loaded(module):
    code = (
        f"import rainpp.stream.{module}, sys; "
        "print(*{'jax', 'duckdb', 'pandas', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
