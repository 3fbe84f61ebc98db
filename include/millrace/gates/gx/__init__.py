"""Great Expectations, loaded quietly: nothing calls home, nothing is written, nothing that it logs can hold a value."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from millrace.core.imports import deferred, hidden, uncollected

if TYPE_CHECKING:
    import pandas as pd

SILENT = logging.CRITICAL + 1
_NEEDS_SQL: dict[type, bool] = {}
"""What `needs_sql` has found, by the class of the expectation."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's loggers and warnings: on an error it logs the whole traceback, values and all."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(SILENT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def load(spark: bool = False) -> Any:
    """Import `great_expectations` (3-6 s the first time) with its analytics off, and without pyspark unless asked.

    GX imports pyspark wherever it is installed: seconds that no other engine needs, and from a program without a file
    (`python -c`) pyspark ends the process. A GX that came without is forgotten and imported again where Spark is
    asked for: it looks for pyspark at import alone. Altair and SciPy's statistics, which are for a few types of
    expectations, wait until one of them is evaluated.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    if spark and "pyspark" not in sys.modules:
        import pyspark  # noqa: F401  # GX takes it from here
        from pydantic.v1 import class_validators  # GX's, and it remembers each name that it has seen

        for module in [m for m in sys.modules if m.partition(".")[0] == "great_expectations"]:
            del sys.modules[module]
        class_validators._FUNCS -= {name for name in class_validators._FUNCS if name.startswith("great_expectations.")}
    if "great_expectations.expectations" not in sys.modules:
        with quiet(), hidden("pyspark"), deferred("altair"), deferred("scipy.stats"), uncollected():
            import great_expectations.expectations
    import great_expectations.expectations  # registers every expectation

    return great_expectations


def validator(engine: Any, data: Any) -> Any:
    """Return GX's Validator of an execution engine's batch, in an ephemeral context that writes and shows nothing.

    Not through a data source: a pandas one takes a fingerprint of the whole frame for every expectation, which costs
    more than most of the expectations.
    """
    gx = load()
    from great_expectations.core.batch import Batch
    from great_expectations.data_context.types import base
    from great_expectations.validator.validator import Validator

    config = base.DataContextConfig(
        # Without its own configuration a context makes a temporary folder for data docs.
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    return Validator(execution_engine=engine, data_context=context, batches=[Batch(data=data)])


def over_frame(frame: pd.DataFrame) -> Any:
    """Return GX's Validator of a frame."""
    load()
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.execution_engine.pandas_batch_data import PandasBatchData

    engine = PandasExecutionEngine()
    return validator(engine, PandasBatchData(execution_engine=engine, dataframe=frame))


def evaluate(over: Any, expectation: Any, sample: int) -> Any:
    """Return GX's result of one expectation, with `sample` unexpected values. Raises what slips through GX's nets."""
    result_format = {"result_format": "BASIC", "partial_unexpected_count": sample}
    (found,) = over.graph_validate([expectation.configuration], {"result_format": result_format})
    return found


def types() -> list[str]:
    """Names of all expectation types that this version of GX knows."""
    load()
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    return sorted(list_registered_expectation_implementations())


def needs_sql(expectation: Any) -> bool:
    """Whether an expectation rests on a metric that GX cannot compute in pandas. Its type decides and is asked once."""
    kind = type(expectation)
    if kind not in _NEEDS_SQL:
        _NEEDS_SQL[kind] = _rests_on_sql(expectation)
    return _NEEDS_SQL[kind]


def _rests_on_sql(expectation: Any) -> bool:
    from great_expectations.exceptions import MetricProviderError
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.registry import get_metric_provider

    engine = PandasExecutionEngine()
    try:
        metrics = expectation.get_validation_dependencies(execution_engine=engine).get_metric_names()
    except Exception:
        return False  # the types of columns are asked for here and no data are there yet; only pandas' own do that
    try:
        for metric in metrics:
            get_metric_provider(metric, engine)
    except MetricProviderError:
        return True
    return False
