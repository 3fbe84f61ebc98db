"""The reference project's source files, read and transformed as the jobs do it, without a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.pipeline import Pipeline

from millrace.spec import ProjectTree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tree() -> ProjectTree:
    return ProjectTree.at(ROOT)


@pytest.fixture(scope="session")
def flights(tree, tmp_path_factory) -> Pipeline:
    """flight_delays with all files of 2013."""
    from demo import data

    incoming = tmp_path_factory.mktemp("incoming")
    data.write_planes(incoming)
    for month in data.MONTHS:
        data.write_flights(incoming, month)
        data.write_weather(incoming, month)
    return Pipeline(tree, tree.spec("flight_delays"), incoming)


@pytest.fixture(scope="session")
def temperatures(tree, tmp_path_factory) -> Pipeline:
    """city_temperature with all files of 2010."""
    from demo import data

    incoming, spec = tmp_path_factory.mktemp("incoming"), tree.spec("city_temperature")
    for day in spec.partitioning.range("2010-01-01", "2010-12-31"):
        data.write_temperatures(incoming, day)
    return Pipeline(tree, spec, incoming)


@pytest.fixture(scope="session")
def digits(tree, tmp_path_factory) -> Pipeline:
    """digits with all its months."""
    from demo import media

    incoming = tmp_path_factory.mktemp("incoming")
    for month in media.MONTHS:
        media.write_digits(incoming, month)
    return Pipeline(tree, tree.spec("digits"), incoming)


@pytest.fixture(scope="session")
def texts(tree, tmp_path_factory) -> Pipeline:
    """languages with all its weeks."""
    from demo import media

    incoming = tmp_path_factory.mktemp("incoming")
    for week in media.weeks():
        media.write_texts(incoming, week)
    return Pipeline(tree, tree.spec("languages"), incoming)


@pytest.fixture(scope="session")
def year(flights) -> dict[str, Any]:
    """Month -> features, of all of 2013."""
    from demo import data

    return {month: flights.transform(month) for month in data.MONTHS}
