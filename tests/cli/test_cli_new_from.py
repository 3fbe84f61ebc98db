"""`millrace new --from`: what it proposes from files is checked and tried as it stands, and says what is a guess."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

DAY = datetime(2024, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """A project without a pipeline."""
    from millrace.cli import scaffold

    folder = tmp_path_factory.mktemp("empty") / "bikes"
    scaffold.init(folder)
    return folder


@pytest.fixture
def bikes(empty, tmp_path, monkeypatch) -> Path:
    """A copy of it, as working directory."""
    folder = tmp_path / "bikes"
    shutil.copytree(empty, folder)
    (folder / "data").mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path: str, rows: list[dict[str, object]], delimiter: str = ",") -> Path:
    with Path(path).open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)


def trips(count: int = 60) -> list[dict[str, object]]:
    """Rows with a type of each kind, one name that SQL keeps for itself, and one that needs quotes."""
    return [
        {
            "ride_id": f"r{n:03d}",
            "booked": f"{DAY + timedelta(minutes=20 * n - 300):%Y-%m-%dT%H:%M:%SZ}",  # some on the day before
            "start_time": f"{DAY + timedelta(minutes=20 * n):%Y-%m-%dT%H:%M:%SZ}",
            "birthday": "1999-05-06",
            "opens": "08:30",
            "station": ["Nord", "Süd", "Hafen"][n % 3],
            "zip": f"0{4000 + n % 7}",
            "order": n % 5,
            "Price (EUR)": 1.5 * n,
            "temp": "NA" if n % 9 == 0 else n % 30,
            "member": ["true", "false"][n % 2],
            "late": int(n % 4 == 0),
        }
        for n in range(count)
    ]


def stations() -> list[dict[str, object]]:
    return [{"station": name, "docks": 5 + n} for n, name in enumerate(("Nord", "Süd", "Hafen"))]


def source(project: Path, name: str, pipeline: str = "rides") -> dict:
    return yaml.safe_load((project / f"include/pipelines/{pipeline}/pipeline.yaml").read_text())["sources"][name]


def ready(millrace, pipeline: str, partition: str) -> str:
    """Check and try what was written."""
    said = millrace("check", pipeline)
    assert said.code == 0, said.err
    said = millrace("try", pipeline, partition)
    assert said.code == 0, said.out + said.err
    return said.out


def test_csv_with_a_date_and_a_static_one(millrace, bikes):
    write("data/trips_2024-01-05.csv", trips())
    write("data/stations.csv", stations())
    before = {path: path.read_bytes() for path in Path("data").iterdir()}
    # When
    said = millrace("new", "rides", "--from", "data/trips_2024-01-05.csv", "data/stations.csv")
    assert said.code == 0, said.err
    assert "Next: millrace check rides && millrace try rides 2024-01-05" in said.out
    # Then it is right as it stands, and the files are as they were
    out = ready(millrace, "rides", "2024-01-05")
    assert "trips 2024-01-05: 60 rows landed" in out and "stations static: 3 rows landed" in out
    assert "transform.sql: 60 rows" in out
    assert {path: path.read_bytes() for path in Path("data").iterdir()} == before
    # What was told from names and values
    trip, station = source(bikes, "trips"), source(bikes, "stations")
    assert trip["location"] == "data/trips_{year}-{month}-{day}.csv" and trip["event_time"] == "start_time"
    assert trip["types"] == {
        "ride_id": "string", "booked": "timestamp", "start_time": "timestamp", "birthday": "date",
        "opens": "time", "station": "string",
        "zip": "string", "order": "integer", "Price (EUR)": "number", "temp": "integer", "member": "boolean",
        "late": "integer",
    }  # fmt: skip
    assert trip["csv"] == {"null_values": ["", "NA"]} and "timezone" not in trip
    assert station["partitioned"] is False and station["location"] == "data/stations.csv"
    spec = yaml.safe_load(Path("include/pipelines/rides/pipeline.yaml").read_text())
    assert spec["features"]["entity"] == ["ride_id"] and "label" not in spec
    assert spec["partition"] | {"start": 0, "end": 0} == {
        "grain": "day", "timezone": "UTC", "start": 0, "end": 0, "missing": "fail",
    }  # fmt: skip
    assert str(spec["partition"]["start"]) == str(spec["partition"]["end"]) == "2024-01-05"
    # The join that it offers is right too
    sql = Path("include/pipelines/rides/transform.sql")
    join = "LEFT JOIN stations ON stations.station = trips.station  -- guessed: "
    assert f"-- {join}" in sql.read_text()
    sql.write_text(sql.read_text().replace(f"-- {join}", join).replace("trips.late", "stations.docks AS late"))
    assert millrace("check", "rides").code == 0


def test_no_value_of_the_data_is_written_and_guesses_say_so(millrace, bikes):
    write("data/trips_2024-01-05.csv", trips())
    assert millrace("new", "rides", "--from", "data/trips_2024-01-05.csv").code == 0
    texts = {p: p.read_text() for p in [*Path("include/pipelines/rides").rglob("*"), Path("feature_repo/rides.py")]
             if p.is_file()}  # fmt: skip
    for value in ("Nord", "r001", "88.5", "1999-05-06", "04001"):
        assert not [path for path, text in texts.items() if value in text], value
    spec = texts[Path("include/pipelines/rides/pipeline.yaml")]
    for line in ("timezone: UTC", "entity: [ride_id]", "order: integer", "null_values:", "  start: ", "location: "):
        assert "# guessed: " in next(text for text in spec.splitlines() if line in text), line


@pytest.mark.parametrize(
    ("date", "left_out", "task", "label"),
    [
        ("2024-01-05", (), "binary", "member"),
        ("2024-01", ("member", "late"), "multiclass", "station"),
        ("2024-01-05T07", ("member", "late", "station", "zip", "order"), "regression", "Price_EUR"),
    ],
)
def test_the_commented_model_is_right_once_the_label_is_no_feature(millrace, bikes, date, left_out, task, label):
    rows = [{key: value for key, value in row.items() if key not in left_out} for row in trips()]
    write(f"data/trips_{date}.csv", rows)
    assert millrace("new", "rides", "--from", f"data/trips_{date}.csv").code == 0
    path = Path("include/pipelines/rides/pipeline.yaml")
    head, _, model = path.read_text().partition("# A model: ")
    assert f"by task: {task}: {label}" in model
    lines = [line.removeprefix("#").removeprefix(" ") for line in model.splitlines()[3:]]
    path.write_text("".join(line for line in head.splitlines(True) if "  end: " not in line) + "\n".join(lines) + "\n")
    feast = Path("feature_repo/rides.py")
    feast.write_text("".join(line for line in feast.read_text().splitlines(True) if f'"{label}"' not in line))
    said = millrace("check", "rides")
    assert said.code == 0, said.err
    assert yaml.safe_load(path.read_text())["label"] | {"known_after": 0} == {
        "column": label, "task": task, "nulls": "drop", "known_after": 0,
    }  # fmt: skip


def test_parquet(millrace, bikes):
    count = 40
    times = [DAY.replace(tzinfo=None) + timedelta(minutes=n) for n in range(count)]
    table = pa.table({
        "station": ["a", "b"] * (count // 2), "at": pa.array(times, pa.timestamp("ns")),
        "on": pa.array(times).cast("date32"),
        "count": pa.array(range(count), pa.int32()), "share": pa.array([0.5, None] * (count // 2), pa.float32()),
        "open": [True, False] * (count // 2), "path": [[1]] * count, "none": pa.nulls(count),
    })  # fmt: skip
    pq.write_table(table, "data/20240105.parquet")
    said = millrace("new", "rides", "--from", "data/20240105.parquet")
    assert said.code == 0, said.err
    assert "data 2024-01-05: 40 rows landed" in ready(millrace, "rides", "2024-01-05")
    found = source(bikes, "data")  # by its folder: nothing but a date is in the file's name
    assert found["location"] == "data/{year}{month}{day}.parquet" and found["timezone"] == "UTC"
    assert found["types"] == {
        "station": "string", "at": "timestamp", "on": "date", "count": "integer", "share": "number", "open": "boolean",
    }  # fmt: skip
    text = Path("include/pipelines/rides/pipeline.yaml").read_text()
    assert "# left out: path: a source's column does not hold list" in text
    assert "# left out: none: no value was seen" in text
    assert "timezone: UTC  # guessed: the zone of times that name none: at; edit" in text


def test_packed_json_of_a_month_with_a_key_of_two_columns(millrace, bikes):
    rows = [
        {"city": city, "day": f"2024-02-{d:02d}", "sales": d / 2, "tags": []} for d in range(1, 29) for city in "ab"
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    Path("data/sales.2024-02.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    said = millrace("new", "sold", "--from", "data/sales.2024-02.jsonl.gz")
    assert said.code == 0, said.err
    assert "transform.sql: 56 rows" in ready(millrace, "sold", "2024-02")
    found = source(bikes, "sales", "sold")
    assert (found["compression"], found["format"]) == ("gzip", "json")
    assert found["location"] == "data/sales.{year}-{month}.jsonl.gz"
    assert found["types"] == {"city": "string", "day": "date", "sales": "number"}
    spec = yaml.safe_load(Path("include/pipelines/sold/pipeline.yaml").read_text())
    assert spec["features"]["entity"] == ["city"] and spec["partition"]["grain"] == "month"


def test_csv_in_another_form_and_a_folder_outside_of_the_project(millrace, bikes, tmp_path):
    (tmp_path / "in").mkdir()
    text = "Nr;Größe;um\n" + "".join(f"{n};{n},5;2024-01-05 10:{n:02d}:00\n" for n in range(30))
    (tmp_path / "in" / "2024.01.05 export.csv").write_bytes(text.encode("windows-1252"))
    (tmp_path / "in" / "2024.01.03 export.csv").write_text("of another day")
    said = millrace("new", "rides", "--from", tmp_path / "in" / "2024.01.05 export.csv")
    assert said.code == 0, said.err
    ready(millrace, "rides", "2024-01-05")
    found = source(bikes, "export")
    assert found["csv"] == {"delimiter": ";", "decimal": ",", "encoding": "windows-1252"}
    assert found["location"] == f"{tmp_path}/in/{{year}}.{{month}}.{{day}} export.csv"
    assert found["types"] == {"Nr": "integer", "Größe": "number", "um": "timestamp"}
    spec = yaml.safe_load(Path("include/pipelines/rides/pipeline.yaml").read_text())
    assert str(spec["partition"]["start"]) == "2024-01-03"


def test_any_header_is_a_name_and_nothing_else(millrace, bikes):
    header = [
        "a\nb; DROP",
        "#x: y",
        "__NAME__",
        'he said "no"',
        "yes",
        "select",
        "ünï\u2028x",
        "1abc",
        "_",
        "x y",
        "x_y",
    ]
    write("data/order_2024-01-05.csv", [dict.fromkeys(header, n) | {"yes": f"t{n % 2}"} for n in range(30)])
    assert millrace("new", "odd", "--from", "data/order_2024-01-05.csv").code == 0
    assert "transform.sql: 30 rows" in ready(millrace, "odd", "2024-01-05")
    assert set(source(bikes, "order", "odd")["columns"]) == set(header)


def test_times_that_are_not_all_in_the_partition_and_none_at_all(millrace, bikes):
    # Given times of which some lie in the day before, in UTC, and a source called as the features' suite is
    rows = [{"id": n, "at": f"2024-01-05T00:{n:02d}:00+00:30", "v": n / 2} for n in range(60)]
    write("data/features-2024-01-05.csv", rows)
    assert millrace("new", "late", "--from", "data/features-2024-01-05.csv").code == 0
    # Then what lies in the partition is taken, and the spec asks about the zone
    assert "transform.sql: 30 rows" in ready(millrace, "late", "2024-01-05")
    asked = "# event_time: at  # 30 of 60 rows lie outside of 2024-01-05: is partition.timezone right?"
    assert asked in Path("include/pipelines/late/pipeline.yaml").read_text()
    # And rows without any time are dated by the partition's start
    write("data/20240105T07.csv", [{"id": n, "v": n / 2} for n in range(9)])
    assert millrace("new", "timeless", "--from", "data/20240105T07.csv").code == 0
    assert "transform.sql: 9 rows" in ready(millrace, "timeless", "2024-01-05T07")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a_2024-01-05.csv": None}, "there is no such file"),
        ({"a_2024-01-05.csv": ""}, "the file is empty"),
        ({"a_2024-01-05.csv": "a,b\n"}, "a header but no rows"),
        ({"a_2024-01-05.csv": "1,2\n3,4\n"}, "it is no header"),
        ({"a_2024-01-05.csv": "a,a\n1,2\n"}, "names a column twice: a"),
        ({"a_2024-01-05.csv": 'a,b\n1,"2\n'}, "quote"),
        ({"a_2024-01-05.csv": "a,b\n1,2\n3\n"}, "the line has 1 fields, the header 2"),
        ({"a_2024-01-05.xlsx": "x"}, "allowed: .csv, .tsv, .parquet"),
        ({"a.csv": "a,b\n1,2\n"}, "a date such as 2024-01-02"),
        ({"a_2024-02-30.csv": "a,b\n1,2\n"}, "a date such as 2024-01-02"),
        ({"a_2024-01-05.csv": "a,b\n1,2\n", "a_2024-01-06.csv": "a,b\n1,2\n"}, "2 files would be the source 'a'"),
        ({"a_2024-01-05.csv": "a,b\n1,2\n", "b_2024-01.csv": "a,b\n1,2\n"}, "of different partitions"),
        ({"a_2024-01-05.csv": "a,b\n1,2\n1,2\n"}, "tells the rows apart"),
        ({"a_2024-01-05.csv": "a\n1\n"}, "no column could be a feature"),
        ({"a_2024-01-05.parquet": "a"}, "not Parquet"),
        ({"a_2024-01-05.json": "[1]\n"}, "no JSON object"),
        ({"a_2024-01-05.json": '{"a": []}\n'}, "no column with values"),
        ({"a_2024-01-05.csv.gz": "a,b\n1,2\n"}, "not gzip"),
    ],
)  # fmt: skip
def test_what_cannot_be_proposed_is_said_and_nothing_is_written(millrace, bikes, files, words):
    for name, text in files.items():
        if text is not None:
            Path("data", name).write_text(text)
    before = sorted(bikes.rglob("*"))
    said = millrace("new", "rides", "--from", *(f"data/{name}" for name in files))
    assert said.code == 1 and words in said.err and "Traceback" not in said.err and said.out == ""
    assert sorted(bikes.rglob("*")) == before


def test_files_without_the_option_are_no_pipelines(millrace, bikes):
    said = millrace("new", "rides", "data/a.csv")
    assert said.code == 1 and "millrace new rides --from FILE..." in said.err
