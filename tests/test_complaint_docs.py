"""What docs/complaints.md shows is what happens."""

import doctest
import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "complaints.md"


def test_every_example_of_the_page_prints_what_it_shows():
    text = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    example = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(example.examples) > 30
    said = []
    failed = doctest.DocTestRunner().run(example, out=said.append)
    assert failed.failed == 0, "".join(said)


def test_the_table_names_every_call():
    from rainpp.database import Database
    from rainpp.result import Result

    text = PAGE.read_text()
    for owner in (Result, Database):
        for name in vars(owner):
            if name.startswith("complain") and name != "complain_about":
                assert f".{name}(" in text, name
