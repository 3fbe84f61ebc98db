"""Threads: as many as the request says, in every library that computes, whatever the CPU limit is.

Two and four threads add floats in another order, so the number is part of a request's identity.
"""

from __future__ import annotations

import os
import sys

_COUNTS = (
    "OMP_NUM_THREADS",  # XGBoost, torch; Arrow's pool too
    "OPENBLAS_NUM_THREADS",  # numpy, scipy
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
_SETTINGS = {
    # Fewer threads on fewer cores would be other sums.
    "OMP_DYNAMIC": "FALSE",
    "MKL_DYNAMIC": "FALSE",
    # Threads that spin while they wait make two threads on busy cores fifteen times slower.
    "OMP_WAIT_POLICY": "passive",
}


def before_imports(threads: int) -> None:
    """Say it in the environment: libraries read it once, when they are loaded."""
    os.environ.update(dict.fromkeys(_COUNTS, str(threads)) | _SETTINGS)


def after_imports(threads: int) -> None:
    """Say it to the libraries that were loaded before, as in a worker that is kept warm.

    XGBoost, torch and DuckDB are told by their engines at every use.
    """
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].set_cpu_count(threads)
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        threadpool_limits(limits=threads, user_api="blas")
