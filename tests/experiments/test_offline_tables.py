"""What the page says about the offline stage follows from the results."""

from __future__ import annotations

from experiments import choose_k, offline_subsample, results, tables_offline
from experiments.offline_subsample import Study
from tests.experiments.small_case import linear_case


def body_of_k(k, inflection):
    run = {
        "case": "SST-2 lstm",
        "parameters": 1000,
        "train_rows": 50,
        "k": k,
        "k_inflection": inflection,
        "eigenvalues": [8.0, 4.0, 2.5, 1.0],
        "auc_r": {"Q3": [0.5, 1.0, 0.979, 0.981]},
        "auc_r_damped": {"Q3": [0.5, 0.6, 0.7, 0.8]},
    }
    return {"experiment": "choose_k", "runs": [run]}


def cells(page):
    return [cell.strip() for cell in page.splitlines()[-1].strip("|").split("|")]


def test_a_k_is_good_within_two_percent_of_the_best():
    row = cells(tables_offline.choose_k(body_of_k(4, 1)))
    assert row[4:] == ["1.000 at 2", "4", "0.981", "1", "0.500", "2", "0.800", "yes"]
    assert cells(tables_offline.choose_k(body_of_k(3, 4)))[-1] == "no"
    assert "in 0 of 1 rows" in tables_offline.choose_k(body_of_k(3, 4))


def test_a_rule_that_the_spectrum_does_not_settle_is_not_good():
    row = cells(tables_offline.choose_k(body_of_k(None, None)))
    assert row[5:9] == ["more than 4", "", "more than 4", ""]
    assert row[-1] == "no"
    assert cells(tables_offline.choose_k(body_of_k(5, 5)))[-1] == "no"


def test_the_study_of_subsamples_compares_with_all_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    case = linear_case(rows=400)
    records = offline_subsample.measure(case, {"images": "none"}, Study(None, 3, (200, 400)))
    auto, half, whole, everything = records
    assert [record["asked"] for record in records] == ["auto", 200, 400, "all"]
    assert auto["rows"] == everything["rows"] == 400  # a fifth of the rows: too few for a half
    # All but an odd row of two classes; half of the rows are another sample.
    assert whole["rows"] == 398
    assert whole["random"]["worst"] > 0.99
    assert half["random"]["worst"] < half["random"]["tenth"] < half["random"]["median"] < 0.9
    assert half["correlation"]["Q3"] < 0.9 < 0.999 < whole["correlation"]["Q3"]
    assert auto["work_ratio"] == 1
    assert everything["rows_multiplied"] == 400 * everything["products"]
    assert half["work_ratio"] == round(everything["rows_multiplied"] / half["rows_multiplied"], 2)
    assert {record["images"] for record in records} == {"none"}
    offline_subsample.save([{"case": "other"}], 1)
    for _ in range(2):
        offline_subsample.save(records, 1)
    body = results.load(offline_subsample.NAME)
    assert [run["case"] for run in body["runs"]] == ["other"] + [case.name] * 4
    body["runs"] = body["runs"][1:]
    row = cells(tables_offline.subsample(body))
    assert row[4:9] == ["all", "400", "", "", ""]
    missing = "No WRN has been measured"
    assert missing in tables_offline.subsample(body)
    named = [run | {"case": "CIFAR-10 wrn10"} for run in body["runs"]]
    assert missing not in tables_offline.subsample(body | {"runs": named})


def test_the_study_of_k_measures_every_k(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    case = linear_case(rows=400)
    run = choose_k.measure(case, {"images": "none"}, choose_k.Effort(300, 5, (32,)))
    assert run["images"] == "none"
    assert abs(run["curvature_rows"] - 300) <= 2
    assert len(run["auc_r"]["Q3"]) == len(run["eigenvalues"]) == 5
    assert len(run["overlap"]["32"][0]) == 5
    save = {"command": "", "settings": {}}
    results.save("one", runs=[run, run | {"case": "other"}], **save)
    assert [kept["case"] for kept in choose_k._others("one", case.name)] == ["other"]
    assert choose_k._others("none", case.name) == []


def test_the_page_says_that_the_wrn_has_not_been_run_until_it_has(tmp_path, monkeypatch):
    body = results.load("offline_wrn_quick")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    assert "has not been run at full size, nor on a GPU" in tables_offline.wrn_quick(body)
    results.save("offline_wrn", command="", settings={}, runs=body["runs"])
    assert "not been run" not in tables_offline.wrn_quick(body)
    speed = body["runs"][0]["products"]["tflop_per_second"]
    body["runs"][0]["products"]["share_of_peak"] = 0.31
    page = tables_offline.wrn(body)
    assert "20 minutes on a V100" in page
    row = next(line for line in page.splitlines() if line.startswith("| product "))
    assert [cell.strip() for cell in row.split("|")][4:6] == [f"{speed:.3g}", "31%"]
