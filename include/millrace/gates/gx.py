"""Great Expectations, loaded quietly: nothing calls home, nothing is written, nothing that it logs can hold a value."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SILENT = logging.CRITICAL + 1


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


def load() -> Any:
    """Import `great_expectations` (3-6 s the first time) with its analytics off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    with quiet():
        import great_expectations
        import great_expectations.expectations  # registers every expectation
    return great_expectations


def batch(frame: pd.DataFrame) -> Any:
    """Return a GX Batch over a frame, in a new ephemeral context that writes, shows and sends nothing."""
    gx = load()
    from great_expectations.data_context.types import base

    config = base.DataContextConfig(
        # Without its own configuration a context makes a temporary folder for data docs.
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("millrace").add_dataframe_asset("snapshot")
    return asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})


def types() -> list[str]:
    """Names of all expectation types that this version of GX knows."""
    load()
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    return sorted(list_registered_expectation_implementations())


def needs_sql(expectation: Any) -> bool:
    """Whether an expectation rests on a metric that GX cannot compute in pandas."""
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
