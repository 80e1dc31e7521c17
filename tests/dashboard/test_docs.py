"""What docs/dashboard.md shows is what happens."""

import doctest
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "dashboard.md"


@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
def test_every_example_of_the_page_prints_what_it_shows():
    text = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    example = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(example.examples) > 20
    said = []
    failed = doctest.DocTestRunner().run(example, out=said.append)
    assert failed.failed == 0, "".join(said)


def test_every_address_of_the_page_is_there():
    from rainpp.dashboard.app import create_app
    from tests.dashboard.world import watched

    with watched() as monitor:
        (own,) = [route for route in create_app([monitor]).routes if route.path == ""]
        served = {re.sub(r"\{[^}]*\}", "X", route.path) for route in own.routes}
    named = re.findall(r"`(?:GET |POST )?(/[a-z/A-Z]+)", PAGE.read_text())
    tails = [name for name in named if name not in ("/rules", "/fix", "/patch", "/")]
    assert len(tails) >= 6
    for name in tails:
        assert re.sub(r"NAME|ID", "X", name) in served, name
