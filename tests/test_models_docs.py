"""What docs/models.md shows is what happens, with JAX set as a newcomer has it."""

import doctest
import re
import shutil
from pathlib import Path

import jax

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
DATA = Path(__file__).parent / "data"


def test_every_example_of_the_page_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suffix in ("npz", "safetensors"):
        shutil.copy(DATA / f"torch_cnn.{suffix}", tmp_path / f"cnn.{suffix}")
    source = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    example = doctest.DocTestParser().get_doctest(source, {}, PAGE.name, str(PAGE), 0)
    assert len(example.examples) > 40
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    newcomer = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with newcomer[0], newcomer[1], jax.enable_x64(False):
        failed = runner.run(example, out=said.append)
    assert failed.failed == 0, "".join(said)


def test_every_file_it_names_exists():
    for name in re.findall(r"`(experiments/\w+\.py)`", PAGE.read_text()):
        assert (PAGE.parent.parent / name).exists(), name
