"""The page holds what the story says, escaped, well formed, and needs nothing from outside."""

from __future__ import annotations

import base64
import re
import stat
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from rainpp.errors import DataError, ShapeError
from rainpp.repair import Round
from rainpp.report import (
    AnswerRow,
    Change,
    Cumulative,
    Example,
    Finding,
    Recall,
    Spectrum,
    Story,
    render_report,
    write_report,
)
from rainpp.report.families import Families, Family
from rainpp.report.predicates import Predicate, Predicates
from rainpp.report.rounds import Rounds

VOID = {"meta", "img", "br", "link", "hr", "input"}
HOSTILE = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Tags, attributes and visible text; `problems` lists tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.problems: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")

    def handle_data(self, data):
        if "style" not in self._open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def image_example(**changes):
    values = {
        "train_id": 314,
        "old_label": 7,
        "new_label": 1,
        "changes": (Change("n of 1", 0.57), Change("n of 7", -0.61)),
        "plausibility": 0.55,
        "true_label": 1,
        "image": np.eye(8),
    }
    return Example(**{**values, **changes})


def full_story(**changes):
    values = {
        "title": "Why so few?",
        "lead": "Thirty instead of sixty-two.",
        "query": "SELECT predict(image) AS digit, count(*) AS n\nFROM digits WHERE id < 9",
        "complaints": ("`n` where digit=1 is 30 and should equal 62",),
        "column": "n",
        "group": "digit",
        "answer": (
            AnswerRow("0", 60, 59.9, None, 60, 59.9, 61),
            AnswerRow("1", 30, 30.0, 62.1, 61, 62.5, 62, complained=True),
        ),
        "findings": (Finding("digit 1", 61, 30, "counted: 62"),),
        "facts": {"training rows": 1198, "parameters": 650},
        "fix": "The first 65 rows.",
        "examples": (image_example(),),
        "num_applied": 65,
        "cumulative": (Cumulative("n of 1", 30.0, 30 + 0.5 * np.arange(1, 91), 65, 62.5, 62),),
        "recall": Recall(np.linspace(0.02, 0.95, 60), 0.972, 1198, 0.88),
        "spectrum": Spectrum(np.geomspace(1, 1e-4, 30), 13, "first plateau"),
        "coverage": 0.99,
        "timings": {"rank": 0.0042, "retrain": 75.0},
        "reproduce": ('pip install "rainpp[demo]"', "rainpp demo"),
    }
    return Story(**{**values, **changes})


def test_everything_of_the_story_is_on_the_page():
    page = Page(render_report(full_story()))
    for expected in (
        "Why so few?",
        "Thirty instead of sixty-two.",
        "SELECT predict(image) AS digit, count(*) AS n FROM digits WHERE id < 9",
        "n where digit=1 is 30 and should equal 62",
        "raises n of 1 by 0.57",
        "lowers n of 7 by 0.61",
        "✓ truly 1",
        "55%",
        "62.5",
        "AUC_R 0.972",
        "88% of the rows changed were real errors",
        "k = 13: first plateau",
        "captures 99.0%",
        "1,198",
        "4.2 ms",
        "1 min 15 s",
        'pip install "rainpp[demo]"',
        "The first 1 of 65",
    ):
        assert expected in page.text, expected


@pytest.mark.parametrize(
    "story", [full_story(), Story("t", "SELECT 1", (), "n", (AnswerRow("all", 3),))]
)
def test_the_page_is_well_formed_and_accessible(story):
    page = Page(render_report(story))
    assert page.problems == []
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("title")) == 1
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    charts = page.all("svg")
    assert all(attributes["role"] == "img" for attributes in charts)
    assert all(attributes["aria-label"] for attributes in charts)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing():
    text = render_report(full_story())
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    sources = [attributes["src"] for _, attributes in page.tags if "src" in attributes]
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(link.startswith("#") for link in links)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_charts_follow_the_colours_of_the_page():
    text = render_report(full_story())
    assert text.count("<svg") == 3
    charts = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--after)" in charts
    # Black in definitions of markers is overridden where they are used.
    colours = set(
        re.findall(r"(?:fill|stroke): (#\w+)", re.sub(r"<defs>.*?</defs>", "", charts, flags=re.S))
    )
    assert colours == set()
    assert "font-family" not in charts


def test_hostile_text_is_escaped_everywhere():
    story = full_story(
        title=HOSTILE,
        lead=HOSTILE,
        query=f"SELECT {HOSTILE}, '{HOSTILE}' AS x -- {HOSTILE}\nFROM \"{HOSTILE}\"",
        complaints=(HOSTILE,),
        column=HOSTILE,
        group=HOSTILE,
        answer=(AnswerRow(HOSTILE, 1.0),),
        findings=(Finding(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        facts={HOSTILE: HOSTILE},
        fix=HOSTILE,
        examples=(
            image_example(
                train_id=HOSTILE,
                old_label=HOSTILE,
                new_label=HOSTILE,
                true_label=HOSTILE,
                changes=(Change(HOSTILE, 1.0),),
            ),
        ),
        cumulative=(Cumulative(HOSTILE, 1.0, np.ones(3), 2, 1.0, 2.0),),
        spectrum=Spectrum(np.array([2.0, 1.0]), 1, HOSTILE),
        families=Families((Family(HOSTILE, 3, 1.0, 1.0, 0.5, 1.5),), HOSTILE, 2.0),
        predicates=Predicates((Predicate(HOSTILE, 3, 0.5, 0.5, 1.0),), 5),
        rounds=Rounds(HOSTILE, 1.0, 1.0, 2.0, (Round(1, 3, 3, 2.0, 2.0, 2.0, 0.1),), HOSTILE),
        timings={HOSTILE: 1.0},
        reproduce=(HOSTILE,),
    )
    text = render_report(story)
    page = Page(text)
    assert "<script" not in text.lower()
    assert page.problems == []
    assert page.text.count(HOSTILE) >= 22


def test_rows_of_a_table_are_shown_as_a_table():
    examples = tuple(
        image_example(
            image=None,
            train_id=f"c-{row}",
            old_label="good",
            new_label=new,
            true_label=truth,
            columns={"income": 1000 * row, "town": "A & B"},
        )
        for row, new, truth in ((1, "bad", "bad"), (2, "bad", "good"), (3, None, "bad"))
    )
    page = Page(render_report(full_story(examples=examples)))
    assert page.all("img") == []
    assert page.problems == []
    for expected in ("c-2", "2,000", "A & B", "✗ truly good", "delete", "✓ truly bad"):
        assert expected in page.text, expected


def repair_example(**changes):
    values = {"new_label": None, "repair": "median filter", "true_label": None}
    return image_example(**{**values, **changes})


def test_a_repair_is_drawn_before_and_after_and_not_as_a_deletion():
    shown = (repair_example(image_after=np.eye(8) / 2), repair_example(train_id=5))
    page = Page(render_report(full_story(examples=shown)))
    assert page.problems == []
    assert "median filter" in page.text
    assert "delete" not in page.text
    assert "Plausible" not in page.text
    alts = [attributes["alt"] for attributes in page.all("img")]
    assert alts[:2] == [
        "training row 314, labelled 7, before",
        "training row 314, labelled 7, after median filter",
    ]
    assert len(alts) == 3


def test_both_pictures_of_a_repair_have_one_scale():
    assert shades(np.eye(8), np.eye(8) / 2) == [255, 128]


def shades(before, after):
    """The lightest pixel of either picture."""
    text = render_report(full_story(examples=(repair_example(image=before, image_after=after),)))
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    pngs = [base64.b64decode(source) for source in sources]
    return [max(zlib.decompress(png[png.index(b"IDAT") + 4 : -16])) for png in pngs]


def test_inputs_that_a_repair_changes_are_written_old_and_new():
    changed = {f"<i>{n}": (n, n + 0.5) for n in range(1, 9)}
    example = repair_example(image=None, repair=HOSTILE, changed=changed)
    text = render_report(full_story(examples=(example, image_example(image=None))))
    page = Page(text)
    assert page.problems == []
    assert "<i>" not in text
    assert "<script" not in text.lower()
    for expected in ("<i>1: 1 → 1.50", "<i>6: 6 → 6.50", "and 2 more", HOSTILE, "change"):
        assert expected in page.text, expected
    assert "<i>7" not in page.text
    assert "plausible" in page.text  # of the other row
    alone = Page(render_report(full_story(examples=(example,))))
    assert "plausible" not in alone.text


def test_a_repair_keeps_the_label():
    with pytest.raises(DataError, match="row 314 has both"):
        repair_example(new_label=1)


def test_an_image_becomes_a_png():
    text = render_report(full_story(examples=(image_example(image=np.zeros((5, 4, 3), np.uint8)),)))
    source = re.search(r'src="data:image/png;base64,([^"]+)"', text)
    assert source is not None
    png = base64.b64decode(source.group(1))
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (4, 5)
    assert "pixelated" in text


def test_low_coverage_is_said_plainly():
    assert "which is low" in render_report(full_story(coverage=0.12))
    assert "which is low" not in render_report(full_story(coverage=0.95))


def test_the_same_story_gives_the_same_page():
    assert render_report(full_story()) == render_report(full_story())


def test_nan_is_drawn_as_a_dash():
    rows = (AnswerRow("0", 3.0, after=float("nan")), AnswerRow("1", 2.0, after=1.0))
    page = Page(render_report(full_story(answer=rows)))
    assert "–" in page.text
    assert "nan" not in page.text.lower()


def test_a_report_replaces_the_one_before(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("old")
    assert write_report(target, full_story()) == target
    assert target.read_text("utf-8") == render_report(full_story())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(DataError, match="cannot write the report"):
        write_report(tmp_path / "missing" / "report.html", full_story())


def test_an_answer_without_rows_is_refused():
    with pytest.raises(DataError, match="`answer` has no rows"):
        full_story(answer=())


def test_an_image_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match="`image` has shape"):
        image_example(image=np.zeros(64))
    with pytest.raises(ShapeError, match="`image_after` has shape"):
        image_example(image_after=np.zeros((8, 8, 4)))


@pytest.mark.parametrize(
    ("example", "verdict"),
    [
        (image_example(), True),
        (image_example(true_label=7), False),
        (image_example(true_label=None), None),
        (image_example(new_label=None, true_label=1), True),
        (image_example(new_label=None, true_label=7), False),
        (image_example(new_label=None, true_label=7, repair="blur"), None),
    ],
)
def test_a_deletion_is_right_when_the_label_is_wrong(example, verdict):
    assert example.verdict is verdict
