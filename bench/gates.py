"""Gates: a million rows, ten columns, twenty expectations, against stock Great Expectations in pandas.

Each figure comes from a process of its own, and leaves imports out: CPU seconds between the call and the verdict. Ours
runs each expectation by itself; the stock part runs the suite in one go, and so looks at a column once for several.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.row import Row

COMMON = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np
import pyarrow as pa
rows = int(sys.argv[1])
random = np.random.default_rng(1)
table = pa.table({
    "id": np.arange(rows), "key": pa.array([f"k{n}" for n in range(rows)]),
    **{f"x{n}": pa.array(random.normal(size=rows), mask=random.random(rows) < 0.1 * n) for n in range(3)},
    **{f"i{n}": random.integers(0, 1000, rows) for n in range(3)},
    **{f"s{n}": pa.array(random.choice(["EWR", "JFK", "LGA"], rows)) for n in range(2)},
})
places, half = ["EWR", "JFK", "LGA"], {"mostly": 0.5}
items = [
    ("expect_table_row_count_to_be_between", {"min_value": 10}),
    ("expect_table_columns_to_match_set", {"column_set": table.column_names}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["id", "s0"]}),
    ("expect_column_values_to_be_unique", {"column": "id"}),
    ("expect_column_value_lengths_to_be_between", {"column": "key", "min_value": 2, "max_value": 7}),
    ("expect_column_mean_to_be_between", {"column": "x0", "min_value": -1, "max_value": 1}),
    ("expect_column_unique_value_count_to_be_between", {"column": "i1", "min_value": 5, "max_value": 1000}),
    ("expect_column_distinct_values_to_be_in_set", {"column": "s1", "value_set": places}),
    ("expect_column_values_to_not_be_null", {"column": "id"}),
    *(("expect_column_values_to_not_be_null", {"column": f"x{n}", **half}) for n in range(3)),
    *(("expect_column_values_to_be_between", {"column": f"x{n}", "min_value": -9, "max_value": 9}) for n in range(3)),
    *(("expect_column_values_to_be_between", {"column": f"i{n}", "min_value": 0, "max_value": 999}) for n in range(3)),
    *(("expect_column_values_to_be_in_set", {"column": f"s{n}", "value_set": places}) for n in range(2)),
]
assert len(items) == 20 and table.num_columns == 10

def measured(run):
    assert run(table.slice(0, 100))  # what is imported late
    before = time.process_time()
    assert run(table)
    print(json.dumps(time.process_time() - before))
"""
OURS = (
    COMMON
    + """
from millrace.gates import engine
engine.SQL_ROWS = 0 if sys.argv[2] == "sql" else 10**9
suite = {"name": "s", "expectations": [{"type": kind, "kwargs": kwargs} for kind, kwargs in items]}
measured(lambda table: engine.validate(table, suite, "s.yaml", lambda column: "public").verdict.passed)
"""
)
STOCK = (
    COMMON
    + """
import great_expectations as gx
from great_expectations import ExpectationSuite
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
asset = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
suite = ExpectationSuite(name="s", expectations=[ExpectationConfiguration(type=kind, kwargs=kwargs).to_domain_obj()
                                                 for kind, kwargs in items])
def run(table):
    return asset.get_batch({"dataframe": table.to_pandas()}).validate(suite, result_format="SUMMARY").success
measured(run)
"""
)


def measure(root: Path, folder: Path) -> list[Row]:
    """Rows of the bench: CPU seconds beyond import; and both engines around the threshold (`engine.SQL_ROWS`)."""

    def python(code: str, rows: int, *which: str) -> float:
        script = folder / "gates.py"  # not `python -c`: with it pyspark, which stock GX imports, ends the process
        script.write_text(code)
        done = subprocess.run([sys.executable, str(script), str(rows), *which], cwd=root, capture_output=True,
                              text=True, check=False)  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return float(json.loads(done.stdout.strip().splitlines()[-1]))

    stock, pandas, in_sql = (python(STOCK, 10**6), python(OURS, 10**6, "pandas"), python(OURS, 10**6, "sql"))
    name = "gate of 1M rows x 10 columns x 20 expectations"
    rows = [
        Row(f"{name}, against stock GX in pandas", in_sql, stock, "CPU-s", "<= 1.5 CPU-s", "Great Expectations"),
        Row(f"{name}, SQL against pandas", in_sql, pandas, "CPU-s", "reported"),
    ]
    for count in (10_000, 30_000, 100_000, 300_000):
        rows.append(Row(f"gate of {count:,} rows, SQL against pandas", python(OURS, count, "sql"),
                        python(OURS, count, "pandas"), "CPU-s", "reported"))  # fmt: skip
    return rows
