"""What docs/hooks.md shows is what happens."""

import doctest
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_every_example_of_the_page_prints_what_it_shows():
    text = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    example = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(example.examples) > 20
    said = []
    failed = doctest.DocTestRunner().run(example, out=said.append)
    assert failed.failed == 0, "".join(said)
