"""A directory as a source: order, growth, restarts, and files that are not as they should be."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from rainpp.errors import ArtifactError, SettingsError
from rainpp.sources import Asides, Directory
from tests.sources.world import NO_IDS, drain, drain_with_crashes, images, lines, opened, rows


def write_parquet(folder, count, size=7, first=0):
    for number in range(first, first + count):
        pq.write_table(rows(size, number), folder / f"{number:03}.parquet", row_group_size=5)


def write_lines(path, table, *, end=b"\n"):
    with path.open("ab") as file:
        file.write(b"\n".join(lines(table)) + end)


def total(monitor):
    return int(monitor.sql("SELECT count(*) AS n FROM rows_0")["n"].iloc[0])


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "in"
    found.mkdir()
    return found


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_crashes_lose_and_double_nothing(tmp_path, folder, monkeypatch, form):
    for number in range(3):
        if form == "parquet":
            write_parquet(folder, 1, first=number)
        else:
            write_lines(folder / f"{number}.jsonl", rows(7, number))

    def source(ledger):
        return Directory(folder, f"*.{form}", name="in", ledger=tmp_path / ledger, rows=3)

    with opened(tmp_path / "whole.duckdb", **NO_IDS) as monitors:
        drain(source("whole"), monitors)
        expected = images(monitors)
        assert total(monitors[0]) == 21
    found, died = drain_with_crashes(
        lambda: source("torn"), tmp_path / "torn.duckdb", monkeypatch, seed=3, crashes=5, **NO_IDS
    )
    assert died >= 3
    assert found == expected


def test_files_that_came_and_went_between_restarts(tmp_path, folder):
    write_parquet(folder, 2)
    with opened(tmp_path / "s.duckdb") as monitors:
        drain(Directory(folder, ledger=tmp_path / "ledger", rows=3), monitors)
    (folder / "000.parquet").unlink()
    (folder / "001.parquet").unlink()
    write_parquet(folder, 1, first=2)
    with opened(tmp_path / "s.duckdb") as monitors:
        drain(Directory(folder, ledger=tmp_path / "ledger"), monitors)
        assert [total(monitor) for monitor in monitors] == [21, 21]


def test_a_growing_file_is_followed_to_its_last_whole_line(folder):
    path, table = folder / "a.jsonl", rows(6)
    source = Directory(folder, "*.jsonl")
    text = b"\n".join(lines(table)) + b"\n"
    cut = len(text) - 40
    with opened() as monitors:
        path.write_bytes(text[:cut])
        drain(source, monitors)
        assert total(monitors[0]) == 5
        drain(source, monitors)
        assert total(monitors[0]) == 5
        with path.open("ab") as file:
            file.write(text[cut:])
        drain(source, monitors)
        assert total(monitors[0]) == 6
        assert monitors[0].offsets == {str(folder): len(text)}


def test_a_last_line_without_an_end_is_taken_once_a_later_file_is_there(folder):
    write_lines(folder / "a.jsonl", rows(4, 1), end=b"")
    source = Directory(folder, "*.jsonl", name="in")
    with opened() as monitors:
        drain(source, monitors)
        assert total(monitors[0]) == 3
        write_lines(folder / "b.jsonl", rows(4, 2))
        drain(source, monitors)
        assert total(monitors[0]) == 8
        assert monitors[0].offsets["in"] >> 40 == 1


def test_lines_written_just_before_the_next_file_are_not_passed_over(folder):
    source = Directory(folder, "*.jsonl", rows=100)
    with opened() as monitors:
        write_lines(folder / "a.jsonl", rows(4, 1))
        drain(source, monitors)
        write_lines(folder / "a.jsonl", rows(4, 2))
        write_lines(folder / "b.jsonl", rows(4, 3))
        drain(source, monitors)
        assert total(monitors[0]) == 12


def test_a_half_written_file_is_waited_for_and_said_once(folder, caplog):
    write_parquet(folder, 3)
    whole = (folder / "001.parquet").read_bytes()
    (folder / "001.parquet").write_bytes(whole[: len(whole) // 2])
    source = Directory(folder, name="in")
    with opened() as monitors:
        drain(source, monitors)
        assert not caplog.messages  # it may be about to be finished
        for _ in range(3):
            drain(source, monitors)
        assert total(monitors[0]) == 7  # nothing behind it is taken before it
        said = [line for line in caplog.messages if "001.parquet cannot be read" in line]
        assert len(said) == 1
        assert "001.parquet" in source.problem
        (folder / "001.parquet").write_bytes(whole)
        drain(source, monitors)
        assert total(monitors[0]) == 21
        assert source.problem is None


def test_a_broken_file_that_is_moved_away_is_passed_over(folder, caplog):
    write_parquet(folder, 3)
    (folder / "001.parquet").write_bytes(b"PAR1 no parquet at all PAR1")
    source = Directory(folder, name="in")
    with opened() as monitors:
        drain(source, monitors)
        (folder / "001.parquet").rename(folder / "001.broken")
        drain(source, monitors)
        assert total(monitors[0]) == 14
    assert any("is gone" in line for line in caplog.messages)


def test_a_file_out_of_order_is_reported_and_not_taken(folder, caplog):
    write_parquet(folder, 2, first=5)
    source = Directory(folder, name="in")
    with opened() as monitors:
        drain(source, monitors)
        write_parquet(folder, 1, first=1)
        drain(source, monitors)
        drain(source, monitors)
        assert total(monitors[0]) == 14
        write_parquet(folder, 1, first=8)
        drain(source, monitors)
        assert total(monitors[0]) == 21
    said = [line for line in caplog.messages if "001.parquet is not taken" in line]
    assert len(said) == 1


def test_lines_added_to_an_earlier_file_are_reported(tmp_path, folder, caplog):
    write_lines(folder / "a.jsonl", rows(3, 1))
    write_lines(folder / "b.jsonl", rows(3, 2))

    def look():
        drain(Directory(folder, "*.jsonl", name="in", ledger=tmp_path / "l"), monitors)

    with opened() as monitors:
        look()
        look()
        write_lines(folder / "a.jsonl", rows(3, 3))
        look()
        assert total(monitors[0]) == 6
    assert any("a.jsonl has grown" in line for line in caplog.messages)


def test_a_file_that_became_shorter_stops_the_source(folder):
    write_lines(folder / "a.jsonl", rows(3, 1))
    source = Directory(folder, "*.jsonl", name="in")
    with opened() as monitors:
        drain(source, monitors)
        (folder / "a.jsonl").write_bytes(b"")
        for _ in range(3):
            drain(source, monitors)
        assert "bytes long" in source.problem


def test_bad_lines_and_bad_rows_are_set_aside_with_their_places(tmp_path, folder):
    good = lines(rows(5))
    wrong = json.dumps({**json.loads(good[0]), "id": 99, "a": "text"}).encode()
    empty = json.dumps({"id": 98}).encode()
    nan = good[1].replace(b'"a": ', b'"a": NaN, "z": ')
    bad = [b"oops", b"[1]", b"{}", wrong, empty, nan, b"\xff\xfe", b"[" * 100_000]
    mixed = [line for pair in zip(good, bad[:5], strict=True) for line in pair] + bad[5:]
    (folder / "a.jsonl").write_bytes(b"\n\n".join(mixed) + b"\n")
    asides = Asides(tmp_path / "aside.jsonl")
    with opened(names=["money"]) as monitors:
        drain(Directory(folder, "*.jsonl", name="in"), monitors, asides)
        assert total(monitors[0]) == 5
    found = asides.read()
    assert len(found) == len(bad)
    assert asides.counts == {"in": len(bad)}
    whole = (folder / "a.jsonl").read_bytes()
    for aside, line in zip(sorted(found, key=lambda a: a.offset), bad, strict=True):
        # The offset is the byte after the line.
        assert whole[: aside.offset].rstrip(b"\n").rpartition(b"\n")[2] == line
    assert Asides(tmp_path / "aside.jsonl").read() == found


def test_a_torn_line_of_the_list_of_asides_does_no_harm(tmp_path, folder):
    (folder / "a.jsonl").write_bytes(b"oops\n")
    path = tmp_path / "aside.jsonl"
    path.write_bytes(b'{"source": "in", "off')
    with opened(names=["money"]) as monitors:
        drain(Directory(folder, "*.jsonl", name="in"), monitors, Asides(path))
    assert [aside.record for aside in Asides(path).read()] == ["oops"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pattern": "*.csv"}, "must be 'parquet' or 'jsonl'"),
        ({"pattern": "**/*.jsonl"}, "names in one directory"),
        ({"format": "csv"}, "must be 'parquet' or 'jsonl'"),
        ({"kind": "rows"}, "`kind` is 'rows'"),
        ({"rows": 0}, "both are positive"),
        ({"every": 0}, "both are positive"),
        ({"name": ""}, "give the source a name"),
    ],
)
def test_wrong_options(folder, options, match):
    with pytest.raises(SettingsError, match=match):
        Directory(folder, **options)


def test_no_directory(folder):
    with pytest.raises(SettingsError, match="is no directory"):
        Directory(folder / "none")


def test_a_ledger_that_is_damaged_or_missing(tmp_path, folder):
    (tmp_path / "ledger").write_bytes(b"{}\n")
    with pytest.raises(ArtifactError, match="is damaged"):
        Directory(folder, ledger=tmp_path / "ledger")
    source = Directory(folder, name="in", ledger=tmp_path / "other")
    with pytest.raises(SettingsError, match="only 0 files are known"):
        source.start({"in": (3 << 40) + 5}, ())
