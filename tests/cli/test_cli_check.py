"""`millrace check` names every problem of every pipeline in one line with file and line, and only problems."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = "include/pipelines/visits/pipeline.yaml"
SQL = "include/pipelines/visits/transform.sql"
RAW = "include/pipelines/visits/suites/visits.yaml"
MADE = "include/pipelines/visits/suites/features.yaml"
FEAST = "feature_repo/visits.py"
DEV = "include/environments/dev.yaml"
# (what is wrong, file, text of it, text instead, file and text of the line that is meant, words of the problem)
PROBLEMS = [
    ("a key of the spec", PIPELINE, "owner: ", "ownr: ", (PIPELINE, "ownr:"),
     "unknown key 'ownr'; allowed here: columns, compute, description"),
    ("SQL that cannot be read", SQL, "FROM visits", "FORM visits",
     (SQL, "FORM visits"), "Parser Error: syntax error at"),
    ("a column that no source has", SQL, "    pages,", "    page,",
     (SQL, "    page,"), 'Referenced column "page" not found'),
    ("a source that is not there", SQL, "FROM visits", "FROM visit", (SQL, "FROM visit"), "visit does not exist"),
    ("a function that is not there", SQL, "date_part('hour'", "datepart2('hour'", (SQL, "datepart2"), "datepart2"),
    ("SQL that is none", SQL, None, "-- nothing yet\n", (SQL, "-- nothing"), "must hold one SELECT"),
    ("two statements", SQL, "SELECT\n", "SET threads = 1;\nSELECT\n", (SQL, ""), "must hold one SELECT"),
    ("columns that depend on data", SQL, None, "PIVOT visits ON region USING sum(pages)\n", (SQL, "PIVOT"),
     "whose columns do not depend on data"),
    ("a column that no Snapshot holds", SQL, "    ordered\n", "    ordered, [pages] AS listed\n", (SQL, ""),
     "column 'listed' is of type BIGINT[], which a Snapshot does not hold"),
    ("no aggregate", SQL, "    minutes,", "    sum(minutes) AS minutes,", (SQL, "    visit_id,"), "GROUP BY"),
    ("SQL that reads a file", SQL, "FROM visits,", "FROM read_csv('data/visits/*.csv') v,", (SQL, "FROM read_csv"),
     "Permission Error"),
    ("a column made twice", SQL, "    pages,", "    pages, minutes AS pages,",
     (SQL, ""), "two columns of one name: pages"),
    ("no event time", SQL, "AS event_timestamp", "AS event_time", (PIPELINE, "event_time: event_timestamp"),
     "features.event_time: transform.sql does not make column 'event_timestamp'; did you mean 'event_time'?"),
    ("event time that is no time", SQL, "time AS event_timestamp", "CAST(time AS VARCHAR) AS event_timestamp",
     (PIPELINE, "event_time: event_timestamp"), "'event_timestamp' is VARCHAR in transform.sql; allowed: TIMESTAMPTZ"),
    ("a time without a zone", SQL, "    ordered\n", "    ordered, time AT TIME ZONE 'UTC' AS seen\n", (SQL, ""),
     "column 'seen' is TIMESTAMP, a time without a zone"),
    ("no entity", SQL, "    visit_id,", "    visit_id AS visit,", (PIPELINE, "entity:"),
     "features.entity.0: transform.sql does not make column 'visit_id'"),
    ("no label", SQL, "    ordered\n", "    ordered AS sold\n", (PIPELINE, "column: ordered"),
     "label.column: transform.sql does not make column 'ordered'"),
    ("label that is text", SQL, "    ordered\n", "    CAST(ordered AS VARCHAR) AS ordered\n",
     (PIPELINE, "column: ordered"),
     "'ordered' is VARCHAR in transform.sql; allowed: a number"),
    ("no created time", PIPELINE, "  event_time: event_timestamp",
     "  event_time: event_timestamp\n  created_time: seen",
     (PIPELINE, "created_time:"), "features.created_time: transform.sql does not make column 'seen'"),
    ("a watched column", PIPELINE, "[region, pages, minutes, hour_of_day]", "[region, page]",
     (PIPELINE, "[region, page]"),
     "monitoring.columns.1: FeatureService 'visits' does not serve 'page'; did you mean 'pages'?"),
    ("a column to group by", PIPELINE, "evaluation:\n",
     "evaluation:\n  checks: [{type: fairness, columns: [regoin], metric: brier, max_difference: 1}]\n",
     (PIPELINE, "regoin"),
     "evaluation.checks.0.columns.0: transform.sql does not make column 'regoin'; did you mean 'region'?"),
    ("a perturbed feature", PIPELINE, "evaluation:\n",
     "evaluation:\n  checks:\n    - type: robustness\n      perturbations:\n"
     "        - {kind: missing, columns: [page], max_change: 1}\n", (PIPELINE, "[page]"),
     "FeatureService 'visits' does not serve 'page'; did you mean 'pages'?"),
    ("a perturbation of another kind", PIPELINE, "evaluation:\n",
     "evaluation:\n  checks:\n    - type: robustness\n      perturbations:\n"
     "        - {kind: noise, columns: [region], scale: 1, max_change: 1}\n", (PIPELINE, "[region], scale"),
     "'region' is VARCHAR in transform.sql, and this perturbation is of a number"),
    ("a classified column", PIPELINE, "  pages: public", "  paegs: public", (PIPELINE, "paegs"),
     "neither a source nor transform.sql has this column; did you mean 'pages'?"),
    ("a window with too few blocks", PIPELINE, "  window: P7D", "  window: P4D", (PIPELINE, "window: P4D"),
     "monitoring.window: performance can never fire: P4D has 4 day blocks (training.holdout.block), and it is judged"),
    ("a job", PIPELINE, "tags: [sample]", "compute: {trian: gpu}", (PIPELINE, "trian"),
     "no such job 'trian'; allowed: land, validate"),
    ("a set that no value can be in", RAW, "value_set: [east, north, south, west]", "value_set: [1, 2]",
     (RAW, "value_set: [1, 2]"), "no value of the set can be in it: the column holds texts, the set numbers"),
    ("an expectation", RAW, "to_be_unique", "to_be_uniqe", (RAW, "to_be_uniqe"),
     "expectations[1]: no such expectation (given: 'expect_column_values_to_be_uniqe')"),
    ("a keyword of an expectation", RAW, "min_value: 1,", "minvalue: 1,", (RAW, "expect_column_values_to_be_between"),
     "does not take this (given: 'minvalue')"),
    ("an expectation that cannot fail", RAW, "value_set: [east, north, south, west]", "value_set: []",
     (RAW, "in_set"), "cannot fail without a 'value_set'"),
    ("a suite without expectations", RAW, None, "name: visits\nexpectations: []\n",
     (RAW, "name"), "would pass anything"),
    ("a suite that is a list", RAW, None, "- a\n", (RAW, "- a"), "a suite is a mapping with a list 'expectations'"),
    ("a key of a suite", RAW, "name: visits", "nam: visits", (RAW, "nam: visits"), "unknown key (given: 'nam')"),
    ("YAML of a suite", RAW, "kwargs: {column: visit_id}", "kwargs: {column: visit_id",
     (RAW, "- type: expect_column_values_to_not"),
     "not valid YAML"),
    ("a check", RAW, "name: visits", "name: visits\nchecks: [{type: volum, min_ratio: 1}]", (RAW, "type: volum"),
     "checks[0]: no such check (given: 'volum'); allowed: freshness, volume"),
    ("a column of a check", RAW, "name: visits", "name: visits\nchecks: [{type: rule, says: x, sql: page > 0}]",
     (RAW, "type: rule"), "checks[0]: no column 'page': the source does not have it; did you mean 'pages'?"),
    ("a rule that is no SQL", RAW, "name: visits", "name: visits\nchecks: [{type: rule, says: x, sql: 'pages >'}]",
     (RAW, "type: rule"), "checks[0]: the rule cannot be read"),
    ("a source of a check", RAW, "name: visits",
     "name: visits\nchecks: [{type: reference, columns: [region], source: visit}]",
     (RAW, "type: reference"), "checks[0]: no source 'visit'; did you mean 'visits'?"),
    ("a column that the source lacks", RAW, "{column: time}", "{column: tim}", (RAW, "{column: tim}"),
     "no column 'tim': the source does not have it; did you mean 'time'?"),
    ("a column that the SQL lacks", MADE, "{column: hour_of_day,", "{column: hour_of_dy,", (MADE, "hour_of_dy"),
     "no column 'hour_of_dy': transform.sql does not make it; did you mean 'hour_of_day'?"),
    ("a feature that the SQL lacks", FEAST, '"minutes"', '"minuts"', (FEAST, '"minuts"'),
     "feature 'minuts' is no column that transform.sql makes; did you mean 'minutes'?"),
    ("a feature of another type", FEAST, 'name="pages", dtype=Int64', 'name="pages", dtype=String', (FEAST, '"pages"'),
     "feature 'pages' is String, transform.sql makes BIGINT; allowed: Int64"),
    ("a key of another type", SQL, "    visit_id,", "    hash(visit_id)::BIGINT AS visit_id,", (FEAST, '"visit_id"'),
     "feature 'visit_id' is String, transform.sql makes BIGINT; allowed: Int64"),
    ("a type that Feast has not", SQL, "    pages,", "    CAST(time AS DATE) AS pages,", (FEAST, '"pages"'),
     "feature 'pages' is DATE in transform.sql, which Feast cannot serve"),
    ("no service", FEAST, 'FeatureService(name="visits"', 'FeatureService(name="visitz"', (FEAST, ""),
     "no FeatureService 'visits', which features.service in pipeline.yaml names; did you mean 'visitz'?"),
    ("a label that is served", FEAST, 'Field(name="pages"', 'Field(name="ordered", dtype=Int64), Field(name="pages"',
     (PIPELINE, "column: ordered"), "label.column: FeatureService 'visits' serves 'ordered', the label"),
    ("another entity", FEAST, 'join_keys=["visit_id"]', 'join_keys=["region"]', (FEAST, '"visits_visit_features"'),
     "joins on 'region'; features.entity in pipeline.yaml says 'visit_id'"),
    ("another event time", FEAST, 'timestamp_field="event_timestamp"', 'timestamp_field="time"', (FEAST, '"time"'),
     "takes its event_time from 'time'; features.event_time in pipeline.yaml says 'event_timestamp'"),
    ("another source", FEAST, "millrace://visits/features", "millrace://visit/features", (FEAST, "millrace://visit/"),
     "no feature view reads millrace://visits/features; did you mean 'millrace://visit/features'?"),
    ("Python", FEAST, "service = FeatureService(", "service = FeatureService((",
     (FEAST, "FeatureService(("), "not valid Python"),
    ("an import", FEAST, "from feast.types", "import pandaz\nfrom feast.types", (FEAST, "import pandaz"),
     "cannot import: No module named 'pandaz'"),
    ("an error of the file", FEAST, "ttl=timedelta(days=90)", "ttl=1 / 0", (FEAST, "ttl=1 / 0"), "ZeroDivisionError"),
    ("a placed source", DEV, "approval:", "pipelines: {visits: {locations: {visit: x}}}\napproval:",
     (DEV, "visits: {loc"),
     "places a source that pipeline 'visits' does not have (given: 'visit'); allowed: visits; did you mean 'visits'?"),
    ("a placed pipeline", DEV, "approval:", "pipelines: {visit: {}}\napproval:", (DEV, "visit: {}"),
     "the project has no pipeline 'visit'; did you mean 'visits'?"),
    ("a placed job", DEV, "approval:", "pipelines: {visits: {compute: {scor: gpu}}}\napproval:", (DEV, "scor"),
     "no such job 'scor'"),
    ("an environment", DEV, "name: dev", "nme: dev",
     (DEV, "nme:"), "unknown key 'nme'; allowed here: alerts, aliases, approval, compute, custom_code"),
    ("the project", "include/project.yaml", "owner:", "onwer:",
     ("include/project.yaml", "onwer"), "unknown key 'onwer'"),
]  # fmt: skip


def line_of(file: Path, text: str) -> int:
    """First line that has the text; an empty one is in the first."""
    return next(n for n, line in enumerate(file.read_text().splitlines(), start=1) if text in line)


def test_what_new_writes_has_no_problem(millrace, shop):
    assert millrace("check") == (0, "1 pipeline checked, no problems\n", "")


@pytest.mark.parametrize(
    ("file", "right", "wrong", "meant", "words"), [p[1:] for p in PROBLEMS], ids=[p[0] for p in PROBLEMS]
)
def test_a_problem_is_named_with_file_and_line(millrace, shop, file, right, wrong, meant, words):
    # Given a good project with one thing changed
    path = shop / file
    text = path.read_text()
    assert right is None or right in text
    path.write_text(wrong if right is None else text.replace(right, wrong, 1))
    # When it is checked
    code, out, err = millrace("check")
    # Then one line says what and where, relative to where the person is, and the count is that of the lines
    assert code == 1 and out == ""
    *lines, last = err.splitlines()
    about = [line for line in lines if words in line]
    assert len(about) == 1, err
    assert about[0].startswith(f"{meant[0]}:{line_of(shop / meant[0], meant[1])}: "), err
    assert last == f"1 pipeline checked, {len(lines)} problem{'s' if len(lines) > 1 else ''}"
    for line in lines:
        assert line.split(":")[1].isdigit() and (shop / line.split(":")[0]).is_file(), line
    assert "Traceback" not in err


def test_custom_code_is_checked_by_environment(millrace, shop):
    # Given a trainer that the learner does not name, then one that production would run in its own process
    trainer = shop / "include/pipelines/visits/trainer.py"
    trainer.write_text("def fit(train, params, settings): ...\ndef predict(weights, rows, params, settings): ...\n")
    assert "include/pipelines/visits/trainer.py:1: nothing uses this file" in millrace("check").err
    path = shop / PIPELINE
    line = line_of(path, "kind: xgboost")
    text = path.read_text().replace("kind: xgboost", "kind: custom")
    path.write_text(re.sub(r"(    kind: custom\n)(?:    .*\n)*", r"\1", text))
    code, _, err = millrace("check")
    assert code == 1 and err.splitlines()[-1] == "1 pipeline checked, 1 problem", err
    assert err.startswith("include/environments/prod.yaml:1: environment 'prod' runs custom code in pods only")
    # and a line of it that is no Python
    trainer.write_text("def fit(:\n")
    assert "include/pipelines/visits/trainer.py:1: not Python" in millrace("check").err
    assert line_of(path, "kind: custom") == line


@pytest.mark.parametrize("file", [SQL, RAW, MADE, FEAST, "feature_repo/feature_store.yaml", "dags/visits.py"])
def test_a_missing_file_is_named_once(millrace, shop, file):
    (shop / file).unlink()
    code, _, err = millrace("check")
    assert code == 1
    assert [line for line in err.splitlines() if "there is no such file" in line and file in line], err
    assert err.count(f"{file}:") + err.count(f"{file}: ") <= 2


def test_all_problems_of_all_pipelines_are_named(millrace, shop):
    # Given three pipelines: a good one, one whose spec cannot be read, one with problems in three files
    for name in ("bad_spec", "bad_files"):
        assert millrace("new", name).code == 0
    (shop / "include/pipelines/bad_spec/pipeline.yaml").write_text("version: 1\nname: bad_spec\n")
    for file, right, wrong in (
        ("include/pipelines/bad_files/transform.sql", "    pages,", "    pagez,"),
        ("include/pipelines/bad_files/suites/visits.yaml", "column: pages", "column: pagez"),
        ("feature_repo/bad_files.py", "ttl=", "tttl="),
    ):
        (shop / file).write_text((shop / file).read_text().replace(right, wrong))
    # When
    code, _, err = millrace("check")
    # Then
    assert code == 1
    named = {line.split(":")[0].removeprefix("include/pipelines/") for line in err.splitlines()[:-1]}
    assert named == {"bad_spec/pipeline.yaml", "bad_files/transform.sql", "bad_files/suites/visits.yaml",
                     "feature_repo/bad_files.py"}  # fmt: skip
    assert err.splitlines()[-1].startswith("3 pipelines checked, ")
    # and one at a time
    assert millrace("check", "visits") == (0, "1 pipeline checked, no problems\n", "")
    assert millrace("check", "include/pipelines/visits").out == "1 pipeline checked, no problems\n"
    assert millrace("check", "include/pipelines/visits/pipeline.yaml").code == 0
    assert millrace("check", "visits", "bad_files").code == 1
    assert millrace("check", "include").err == err


def test_a_project_is_checked_from_anywhere(millrace, shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert millrace("check", "shop").code == 0
    assert millrace("check", "--project", "shop", "visits").code == 0
    (shop / "dags/visits.py").unlink()
    assert millrace("check", "shop").err.startswith("shop/dags/visits.py:1: there is no such file")
    monkeypatch.chdir(shop / "include")
    assert millrace("check").err.startswith("../dags/visits.py:1: ")
    monkeypatch.chdir("/")
    assert millrace("check", shop).err.startswith(f"{str(shop).lstrip('/')}/dags/visits.py:1: ")


def test_words_that_mean_nothing(millrace, shop, tmp_path, monkeypatch):
    said = millrace("check", "visitz")
    assert said.code == 1 and "no such pipeline or folder (given: 'visitz')" in said.err
    assert "did you mean 'visits'?" in said.err
    shutil.copytree(shop, tmp_path / "other")
    assert "folders of two projects" in millrace("check", "include", tmp_path / "other").err
    monkeypatch.chdir(tmp_path)
    said = millrace("check")
    assert said.code == 1 and "no project here" in said.err and "millrace init" in said.err


def test_a_features_only_pipeline_has_no_problem(millrace, shop):
    import yaml

    path = shop / PIPELINE
    spec = yaml.safe_load(path.read_text())
    for key in ("label", "training", "evaluation", "monitoring"):
        del spec[key]
    path.write_text(yaml.safe_dump(spec))
    assert millrace("check").code == 0


def test_nothing_is_written_by_a_check(millrace, shop):
    before = sorted(p for p in shop.rglob("*"))
    assert millrace("check").code == 0
    assert sorted(p for p in shop.rglob("*")) == before


def change(shop, file, *changes):
    path = shop / file
    text = path.read_text()
    for right, wrong in changes:
        assert right in text, right
        text = text.replace(right, wrong, 1)
    path.write_text(text)


def test_mistakes_of_all_kinds_are_named_in_one_go(millrace, shop, monkeypatch):
    # Given keys, types and words that are wrong in pipeline.yaml, and a mistake in each other file
    change(shop, PIPELINE, ("owner: ", "ownr: "), ("minimum_rows: 1000", "minimum_rows: many"), ("k: 2", "k: 5"),
           ("known_after: PT1H", "known_after: 1 hour"), ("    gate: suites", "    lokback: P1D\n    gate: suites"),
           ("window: P7D", "window: P4D"))  # fmt: skip
    change(shop, SQL, ("    minutes,", "    minuts,"))
    change(shop, RAW, ("column: time}", "column: tim}"), ("to_be_unique", "to_be_uniqe"))
    change(shop, MADE, ("column: hour_of_day,", "column: hour_of_dy,"))
    change(shop, FEAST, ('timestamp_field="event_timestamp"', 'timestamp_field="time"'))
    change(shop, DEV, ("approval:", "pipelines: {visit: {}}\napproval:"))
    monkeypatch.setitem(sys.modules, "xgboost", None)  # as where it is not installed
    # When
    code, _, err = millrace("check")
    # Then each is named, by its file and key, and nothing that only follows from another
    *lines, last = err.splitlines()
    expected = [
        (DEV, "no pipeline 'visit'"),
        (PIPELINE, "key 'owner' is missing"),
        (PIPELINE, "unknown key 'ownr'"),
        (PIPELINE, "unknown key 'sources.visits.lokback'"),
        (PIPELINE, "label.known_after: '1 hour' is not a duration"),
        (PIPELINE, "training.minimum_rows: Input should be a valid integer"),
        (PIPELINE, "monitoring.k: cannot be larger than n (3)"),
        (PIPELINE, "training.learner.kind: job 'train' needs the module 'xgboost', which is not installed here"),
        (RAW, "no such expectation"),
        (RAW, "no column 'tim'"),
        (SQL, "minuts"),
        (MADE, "no column 'hour_of_dy'"),
        (FEAST, "takes its event_time from 'time'"),
    ]
    for file, words in expected:
        assert [line for line in lines if line.startswith(f"{file}:") and words in line], (file, words, err)
    assert code == 1 and last == f"1 pipeline checked, {len(expected)} problems", err


def test_other_files_are_checked_where_the_spec_cannot_be_read(millrace, shop):
    change(shop, PIPELINE, ("name: visits", "name: [visits"))
    change(shop, SQL, ("FROM visits", "FORM visits"))
    change(shop, RAW, ("to_be_unique", "to_be_uniqe"))
    change(shop, FEAST, ("ttl=timedelta(days=90)", "ttl=1 / 0"))
    named = [line.split(":")[0] for line in millrace("check").err.splitlines()[:-1]]
    assert named == [PIPELINE, SQL, RAW, FEAST]


@pytest.mark.parametrize("section", ["partition", "sources", "features", "label", "training", "monitoring"])
def test_a_section_that_is_missing_is_all_that_is_said_of_it(millrace, shop, section):
    text = re.sub(rf"(?m)^{section}:\n(?: +.*\n)+", "", (shop / PIPELINE).read_text())
    (shop / PIPELINE).write_text(text)
    lines = millrace("check").err.splitlines()[:-1]
    if section in ("partition", "sources", "features"):
        assert len(lines) == 1 and f"key '{section}' is missing" in lines[0], lines
    else:
        assert all(line.startswith(PIPELINE) for line in lines) and len(lines) <= 2, lines


def test_feast_files_are_read_by_a_process_of_their_own(shop):
    """As a person's call does, which has not imported Feast; what a file prints is no answer."""
    change(shop, FEAST, ("service = FeatureService", "print('hello')\nservice = FeatureService"))
    call = [sys.executable, "-m", "millrace.cli.app", "check"]
    said = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "1 pipeline checked, no problems\n", "")
    change(shop, FEAST, ("ttl=timedelta(days=90)", "ttl=1 / 0"))
    said = subprocess.run(call, capture_output=True, text=True, check=False)
    assert said.stderr.splitlines()[0].endswith("ZeroDivisionError: division by zero")
    assert said.stderr.startswith(f"{FEAST}:{line_of(shop / FEAST, 'ttl=1 / 0')}: ")


ON_DEMAND = """
from feast import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

asked = RequestSource(name="asked", schema=[Field(name="FIELD", dtype=Float64)])


@on_demand_feature_view(sources=[asked], mode="MODE", schema=[Field(name="made", dtype=Float64)])
def made(given):
    return {"made": given["FIELD"]}


service = FeatureService(name="visits", features=[features, made])
"""


@pytest.mark.parametrize(
    ("field", "mode", "custom_code", "words"),
    [
        ("minutes_asked", "python", "process", "no column of transform.sql.*what a request carries is a column"),
        ("ordered", "python", "process", "an on-demand feature is made from 'ordered', the label"),
        ("asked_pages", "python", "pods", "custom code in pods only.*build_training_set, evaluate, score"),
        ("asked_pages", "pandas", "process", "is not computed for one row at a time"),
        ("asked_pages", "python", "process", None),
    ],
)
def test_on_demand_features_are_checked_before_they_are_needed(millrace, shop, field, mode, custom_code, words):
    text = (shop / FEAST).read_text()
    line = next(each for each in text.splitlines() if each.startswith("service = FeatureService("))
    view = re.search(r"features=\[(\w+)\]", line).group(1)
    made = ON_DEMAND.replace("FIELD", field).replace("MODE", mode).replace("[features, made]", f"[{view}, made]")
    (shop / FEAST).write_text(text.replace(line, made))
    sql = (shop / SQL).read_text()
    (shop / SQL).write_text(sql.replace("    pages,", "    pages, CAST(pages AS DOUBLE) AS asked_pages,"))
    for path in (shop / "include/environments").glob("*.yaml"):
        kept = [each for each in path.read_text().splitlines() if not each.startswith("custom_code:")]
        path.write_text("\n".join([*kept, f"custom_code: {custom_code}", ""]))
    code, _, err = millrace("check")
    if words is None:
        assert code == 0, err
    else:
        assert code == 1 and re.search(words, err), err
