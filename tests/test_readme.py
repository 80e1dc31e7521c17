"""What the README says is run."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_python_example_heals_the_count(capsys):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    names = {}
    exec(compile(code[1], "README.md", "exec"), names)
    count = dict(zip(names["result"].df()["digit"], names["result"].df()["n"], strict=True))[1]
    proof = names["rainpp"].verify(names["ranking"], fit=names["fit"], top=60)
    assert count < 50  # the complaint is justified
    assert abs(proof.after - 60) < abs(count - 60) / 2
    assert "relabel" in capsys.readouterr().out


def test_every_file_and_command_it_names_exists():
    text = README.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (README.parent / link).exists(), link
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_example_is_as_short_as_it_promises():
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    lines = [line for line in code[1].splitlines() if line.strip()]
    imports = [line for line in lines if line.startswith(("import", "from"))]
    assert len(lines) - len(imports) <= 20
