"""Spark sessions that answer as DuckDB does here: clocks in UTC, errors where a value does not fit, nothing downloaded.

Where Spark runs is one setting, the master URL (`MILLRACE_SPARK`): `local[4]`, `spark://host:7077`,
`k8s://https://host:6443`. What else a cluster needs (image, namespace, memory) stands in its spark-defaults.conf, as
for any Spark program. Left empty, the master is the one that spark-submit or spark-defaults.conf name.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from millrace.core.errors import DataError, SpecError, Unavailable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

T = TypeVar("T")

SESSION = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    "spark.sql.caseSensitive": "false",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "131072",
}
"""What decides a query's rows; set on every session, whatever spark-defaults.conf says."""
_PROCESS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "OFF",  # Spark's errors quote values of rows
    "spark.driver.extraJavaOptions": "-Duser.timezone=UTC",
    "spark.executor.extraJavaOptions": "-Duser.timezone=UTC",
    "spark.driver.maxResultSize": "0",
    "spark.sql.warehouse.dir": str(Path(tempfile.gettempdir()) / "millrace-spark-warehouse"),  # not the working folder
}
NEEDS = "Install 'millrace[spark]' and Java 17 or 21 (JAVA_HOME)"


def session(master: str) -> SparkSession:
    """A session of its own, with no views in it, on the process's one connection to Spark, which is made if need be.

    Raises SpecError where pyspark is missing, Unavailable where Spark does not start.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise SpecError("engine 'spark' needs pyspark, which is not installed", next_step=NEEDS) from None
    for quoting in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):  # they quote values of rows
        logging.getLogger(quoting).disabled = True
    builder = SparkSession.builder.appName("millrace")
    for key, value in _PROCESS.items():
        builder = builder.config(key, value)
    if master:
        builder = builder.master(master)
    if local := re.fullmatch(r"local(?:\[(\d+|\*)\])?", master):
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
        if local[1] != "*":  # one part per core; Spark's default of 200 is for a cluster
            builder = builder.config("spark.sql.shuffle.partitions", local[1] or "1")
    try:
        made = builder.getOrCreate().newSession()
    except (PySparkException, OSError, RuntimeError) as err:
        raise Unavailable(f"Spark does not start ({type(err).__name__})", given=master, next_step=NEEDS) from err
    for key, value in SESSION.items():
        made.conf.set(key, value)
    return made


def url(place: str) -> str:
    """A place in the store as Hadoop's file systems name it."""
    return place.replace("s3://", "s3a://", 1)


def guarded(call: Callable[[], T], where: str) -> T:
    """Call Spark, and turn its errors, which may quote a row's values, into ours, which do not.

    Raises DataError where a query fails on a row, SpecError where Spark cannot plan it, MemoryError, and Unavailable
    where Spark itself failed. `where` is what the message names.
    """
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    from pyspark.errors import AnalysisException, PySparkException

    try:
        return call()
    except AnalysisException as err:
        failed: Exception = SpecError(f"Spark cannot plan the query ({err.getCondition()})", where=where)
    except PySparkException as err:
        condition, state = err.getCondition(), err.getSqlState() or ""
        if condition and state.startswith(("22", "P0")):  # SQL's classes of wrong data, and of raise_error
            failed = DataError(f"the query fails on a row ({condition})", where=where)
        else:
            failed = _broken(str(err), where)
    except Py4JError as err:
        failed = _broken(str(err), where)
    raise failed  # outside of `except`, so that no traceback shows Spark's text


def _broken(text: str, where: str) -> Exception:
    if "OutOfMemoryError" in text:
        return MemoryError(f"{where} needs more memory than Spark has (spark.driver.memory, spark.executor.memory)")
    return Unavailable("Spark failed while it ran the query; its own log says why", where=where)
