"""A mistake in a file that people write is named by file, line, key, value, what is allowed and the nearest match."""

from __future__ import annotations

import textwrap

import pytest
import yaml

from millrace.core.errors import SpecError
from millrace.spec import Environment, PipelineSpec
from millrace.spec.yaml_file import load

GOOD = """\
version: 1
name: sales
owner: team
description: Sales of a shop.
partition:
  grain: month
  timezone: Europe/Berlin
  start: 2024-01
  end: 2024-12
sources:
  orders:
    kind: files
    location: in/{year}-{month}.csv
    event_time: time
    lookback: P3D
    gate: suites/orders.yaml
    columns: [id, time, price]
    types:
      time: timestamp
features:
  entity: [id]
  service: sales
columns:
  price: public
label:
  column: sold
  task: binary
  known_after: P1D
training:
  learner:
    kind: xgboost
    rounds: 10
  window: P3M
evaluation:
  thresholds:
    log_loss: {max: 0.6}
monitoring:
  k: 2
  n: 3
"""
# (what is wrong, text of GOOD, text instead, line of the mistake, words of the message)
MISTAKES = [
    ("unknown key at the top", "owner: team", "ownr: team", 3, ["unknown key 'ownr'", "did you mean 'owner'?"]),
    ("missing key", "owner: team\n", "", 1, ["key 'owner' is missing"]),
    ("unknown key in a section", "  grain: month", "  grian: month", 6,
     ["unknown key 'partition.grian'", "allowed here:", "did you mean 'grain'?"]),
    ("unknown key in a source", "    lookback: P3D", "    lokback: P3D", 15,
     ["unknown key 'sources.orders.lokback'", "did you mean 'lookback'?"]),
    ("key of another kind of source", "    lookback: P3D", "    conection: c", 15,
     ["unknown key 'sources.orders.conection'"]),
    ("unknown key in a learner", "    rounds: 10", "    round: 10", 32,
     ["unknown key 'training.learner.round'", "did you mean 'rounds'?"]),
    ("key of another learner", "    rounds: 10", "    hidden: [3]", 32,
     ["unknown key 'training.learner.hidden'", "subsample"]),
    ("unknown key in a threshold", "{max: 0.6}", "{maxi: 0.6}", 36,
     ["'evaluation.thresholds.log_loss.maxi'", "allowed here: max, min", "did you mean 'max'?"]),
    ("kind of learner", "    kind: xgboost", "    kind: xgbost", 31,
     ["training.learner.kind: unknown kind 'xgbost'", "allowed: custom, torch_mlp, xgboost",
      "did you mean 'xgboost'?"]),
    ("kind of source", "    kind: files", "    kind: file", 12,
     ["sources.orders.kind: unknown kind 'file'", "allowed: files, s3", "did you mean 'files'?"]),
    ("no kind", "    kind: files\n", "", 11, ["sources.orders: needs a 'kind'; allowed: files, s3"]),
    ("word that is not allowed", "  grain: month", "  grain: moth", 6,
     ["partition.grain", "'hour', 'day', 'week' or 'month'", "given: 'moth'", "did you mean 'month'?"]),
    ("wrong type", "    rounds: 10", "    rounds: many", 32, ["training.learner.rounds", "integer", "given: 'many'"]),
    ("list instead of a word", "owner: team", "owner: [team]", 3, ["owner", "string", "given: ['team']"]),
    ("nothing instead of a word", "owner: team", "owner:", 3, ["owner", "string", "given: nothing"]),
    ("mapping instead of a list", "[id, time, price]", "{id: 1}", 17, ["sources.orders.columns"]),
    ("out of bounds", "    rounds: 10", "    rounds: 0", 32, ["greater than or equal to 1", "given: 0"]),
    ("endless number", "{max: 0.6}", "{max: .inf}", 36, ["'.inf' is not a finite number"]),
    ("duration", "    lookback: P3D", "    lookback: 3 days", 15,
     ["sources.orders.lookback", "'3 days' is not a duration", "P28D"]),
    ("duration of nothing", "  window: P3M", "  window: P", 33, ["'P' is not a duration"]),
    ("time zone", "Europe/Berlin", "Europe/Berln", 7, ["partition.timezone", "IANA", "given: 'Europe/Berln'"]),
    ("partition of another grain", "start: 2024-01", "start: 2024-01-01", 8,
     ["partition.start", "'2024-01-01' is not a month partition", "2013-01"]),
    ("month that is not", "end: 2024-12", "end: 2024-13", 9, ["partition.end", "'2024-13' is not a month partition"]),
    ("end before start", "end: 2024-12", "end: 2023-12", 9,
     ["partition.end", "before start 2024-01", "given: '2023-12'"]),
    ("unknown field of a location", "{year}-{month}", "{year}-{mnth}", 13,
     ["sources.orders.location", "'{mnth}'", "{month}"]),
    ("location without fields", "in/{year}-{month}.csv", "in/orders.csv", 13, ["needs a field such as {year}"]),
    ("location without the month", "{year}-{month}", "{year}", 13,
     ["every month would read the same file", "lacks {month}"]),
    ("location with half a brace", "{year}-{month}", "{year}-{month", 13, ["unbalanced braces"]),
    ("location with a format", "{month}", "{month:02}", 13, ["take no format"]),
    ("location of another kind", "in/{year}", "s3://in/{year}", 13, ["'files' is a path"]),
    ("static source with fields", "    kind: files", "    kind: files\n    partitioned: false", 14,
     ["no partition fields", "static source"]),
    ("column twice", "[id, time, price]", "[id, time, id]", 17, ["column 'id' stands twice"]),
    ("column twice for SQL", "[id, time, price]", "[id, time, ID]", 17, ["upper from lower"]),
    ("type of no column", "      time: timestamp", "      tme: timestamp", 19,
     ["sources.orders.types.tme", "no such column", "did you mean 'time'?"]),
    ("event time of no column", "event_time: time", "event_time: tme", 14,
     ["must be a column of type timestamp", "did you mean 'time'?"]),
    ("event time that is a date", "      time: timestamp", "      time: date", 14,
     ["must be a column of type timestamp"]),
    ("type that there is not", "      time: timestamp", "      time: datetime", 19,
     ["sources.orders.types.time", "'date', 'time'", "given: 'datetime'"]),
    ("time of day on Spark", "timestamp\nfeatures:\n", "timestamp\n      price: time\nfeatures:\n  engine: spark\n", 20,
     ["sources.orders.types.price", "Spark has no time of day: declare it string"]),
    ("zone of a source", "    lookback: P3D", "    timezone: Europe/Berln", 15,
     ["sources.orders.timezone", "IANA", "given: 'Europe/Berln'"]),
    ("csv of another format", "    lookback: P3D", "    format: json\n    csv: {null_values: [NA]}", 16,
     ["sources.orders.csv", "only of format csv", "given: 'json'"]),
    ("key of csv", "    lookback: P3D", "    csv: {delimeter: ';'}", 15,
     ["unknown key 'sources.orders.csv.delimeter'", "did you mean 'delimiter'?"]),
    ("delimiter of two characters", "    lookback: P3D", "    csv: {delimiter: '\\t'}", 15,
     ["sources.orders.csv.delimiter", "one ASCII character", 'a tab is written "\\t", in double quotes']),
    ("escape that is the quote", "    lookback: P3D", "    csv: {escape: '\"'}", 15,
     ["sources.orders.csv.escape", "the same as quote", "leave escape out"]),
    ("encoding that is none", "    lookback: P3D", "    csv: {encoding: utf-9}", 15,
     ["sources.orders.csv.encoding", "given: 'utf-9'", "did you mean 'utf-8'?"]),
    ("encoding that is code", "    lookback: P3D", "    csv: {encoding: unicode_escape}", 15, ["no text encoding"]),
    ("null word that is no list", "    lookback: P3D", "    csv: {null_values: NA}", 15,
     ["sources.orders.csv.null_values"]),
    ("name of a source", "  orders:", "  Orders:", 11, ["'Orders' is not a usable name", "lower-case"]),
    ("source that the SQL has", "  orders:", "  scope:", 11, ["view 'scope' already"]),
    ("service", "service: sales", "service: sales-1", 22,
     ["features.service", "not a usable name", "given: 'sales-1'"]),
    ("metric", "log_loss:", "log_los:", 36, ["no metric of a binary label", "did you mean 'log_loss'?"]),
    ("metric of another task", "log_loss:", "rmse:", 36, ["no metric of a binary label", "roc_auc"]),
    ("threshold without a bound", "{max: 0.6}", "{}", 36, ["a threshold needs min or max"]),
    ("threshold that nothing meets", "{max: 0.6}", "{max: 0.1, min: 0.2}", 36, ["cannot be larger than max"]),
    ("k above n", "  k: 2", "  k: 4", 38, ["monitoring.k", "cannot be larger than n (3)", "given: 4"]),
    ("age without max_age", "  n: 3", "  retrain_on: {age: true}", 39, ["needs max_age"]),
    ("schedule", "  window: P3M", "  schedule: weekly\n  window: P3M", 33, ["training.schedule", "given: 'weekly'"]),
    ("classification", "price: public", "price: pubic", 24, ["columns.price", "'personal'", "did you mean 'public'?"]),
    ("another version", "version: 1", "version: 2", 1, ["version", "given: 2"]),
    ("key twice", "owner: team", "owner: team\nowner: me", 4, ["key 'owner' stands twice"]),
    ("nested key twice", "      time: timestamp", "      time: timestamp\n      time: string", 20,
     ["key 'time' stands twice"]),
    ("key that YAML takes for a truth", "owner: team", "on: team", 3, ["YAML reads key 'on' as bool", "quote"]),
    ("key that is a list", "owner: team", "? [a]\n: team", 3, ["a key must be a word"]),
    ("half a list", "[id, time, price]", "[id, time", 18, ["not valid YAML"]),
    ("tab", "  grain: month", "\tgrain: month", 6, ["not valid YAML"]),
    ("character that YAML does not know", "owner: team", "owner: \x07", 3, ["not valid YAML"]),
]  # fmt: skip


def mistake(tmp_path, text: str | bytes) -> str:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as found:
        load(PipelineSpec, path)
    return str(found.value).replace(str(tmp_path) + "/", "")


def test_the_file_that_the_mistakes_are_made_in_is_good(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(GOOD)
    spec = load(PipelineSpec, path)
    assert spec.training.learner.rounds == 10 and spec.sources["orders"].kind == "files"
    assert spec.classification("price") == "public" and spec.classification("id") == "internal"


@pytest.mark.parametrize(("right", "wrong", "line", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_line(tmp_path, right, wrong, line, words):
    # Given a good file with one thing changed
    assert right in GOOD
    # When it is read
    said = mistake(tmp_path, GOOD.replace(right, wrong, 1))
    # Then one of the lines names file, line, and all that helps
    (about,) = [one for one in said.splitlines() if words[0] in one]
    assert about.startswith(f"pipeline.yaml:{line}: "), said
    for word in words:
        assert word in about
    assert "Traceback" not in said and "pydantic" not in said


def test_all_mistakes_are_named_at_once_in_the_order_of_the_file(tmp_path):
    text = GOOD.replace("k: 2", "k: 9").replace("grain: month", "grain: moth").replace("rounds: 10", "rounds: 0")
    said = mistake(tmp_path, text).splitlines()
    assert [line.split(":")[1] for line in said] == ["6", "32", "38"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "pipeline.yaml:1: the file is empty"),
        ("# nothing but a comment\n", "pipeline.yaml:1: the file is empty"),
        ("- a\n- b\n", "pipeline.yaml:1: the file must hold a mapping (key: value) (given: 'a list')"),
        ("just words", "pipeline.yaml:1: the file must hold a mapping (key: value) (given: 'text')"),
        ("\x89PNG\r\n", "pipeline.yaml:1: not valid YAML"),
        (GOOD.replace("team", "Käse").encode("latin-1"), "pipeline.yaml:3: not UTF-8 text. Save the file as UTF-8"),
    ],
    ids=["empty", "comment", "list", "word", "binary", "latin-1"],
)
def test_a_file_that_is_no_mapping(tmp_path, text, words):
    assert mistake(tmp_path, text).startswith(words)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SpecError, match=r"pipeline\.yaml: there is no such file"):
        load(PipelineSpec, tmp_path / "pipeline.yaml")


def test_a_folder_where_a_file_should_be(tmp_path):
    (tmp_path / "pipeline.yaml").mkdir()
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load(PipelineSpec, tmp_path / "pipeline.yaml")


@pytest.mark.parametrize("key", ["training", "evaluation", "label"])
def test_training_needs_label_and_thresholds(tmp_path, key):
    # Given a spec that lacks one of the three, and metrics without a task to judge
    spec = yaml.safe_load(GOOD)
    del spec[key]
    said = mistake(tmp_path, yaml.safe_dump(spec, sort_keys=False))
    # Then what is missing or too much is named at the line of what asks for it
    wanted = {"training": "evaluation: needs training", "evaluation": "the key 'evaluation' is missing",
              "label": "the key 'label' is missing"}[key]  # fmt: skip
    assert wanted in said and ":1: " not in said


def test_a_pipeline_of_features_only_is_valid():
    spec = yaml.safe_load(GOOD)
    for key in ("training", "evaluation", "monitoring", "label"):
        del spec[key]
    assert PipelineSpec.model_validate(spec).training is None


@pytest.mark.parametrize("location", ["s3://", "s3://bucket", "bucket/{year}{month}.csv"])
def test_an_s3_source_has_an_address(tmp_path, location):
    text = GOOD.replace("kind: files", "kind: s3").replace("in/{year}-{month}.csv", location)
    assert "pipeline.yaml:13: sources.orders.location: location of kind 's3' is s3://bucket/key" in mistake(
        tmp_path, text
    )


def test_dates_and_windows_line_ends_are_read_as_people_mean_them(tmp_path):
    path = tmp_path / "pipeline.yaml"
    text = GOOD.replace("grain: month", "grain: day").replace("start: 2024-01", "start: 2024-01-01")
    text = text.replace("end: 2024-12", "end: 2024-12-31").replace("{month}", "{month}-{day}")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load(PipelineSpec, path).partition.end == "2024-12-31"


@pytest.mark.parametrize("key", ["gates", "evaluation", "features", "training", "learner", "columns", "label"])
def test_an_environment_cannot_change_what_is_approved(tmp_path, key):
    path = tmp_path / "dev.yaml"
    path.write_text(
        textwrap.dedent(f"""\
        version: 1
        name: dev
        pipelines:
          sales:
            scheduled: false
            {key}: {{}}
        """)
    )
    with pytest.raises(SpecError) as found:
        load(Environment, path)
    assert f"dev.yaml:6: unknown key 'pipelines.sales.{key}'" in str(found.value)
    assert "allowed here: approval, compute, deadlines, locations, scheduled" in str(found.value)
