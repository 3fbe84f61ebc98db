"""`python -m millrace.cli.prepare URI`: make the MLflow database before several processes open it at once."""

from __future__ import annotations

import sys


def main(uri: str) -> None:
    """Create or migrate the tables of an MLflow SQL store; does nothing for a server's address."""
    if "://" not in uri or uri.startswith(("http://", "https://")):
        return
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry
    from mlflow.store.tracking.dbmodels.initial_models import Base  # noqa: F401  (registers the tables)

    engine = create_sqlalchemy_engine_with_retry(uri)
    _initialize_tables(engine)


if __name__ == "__main__":
    main(sys.argv[1])
