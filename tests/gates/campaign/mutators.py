"""Corruptions of the real files, as they happen to files: each is a family, a name, and new files for a month.

A file is a frame of texts, as it stands in the CSV, or the bytes that are to lie there instead. What a mutant changes
is drawn from one seed, so that a campaign can be repeated and nobody chose the corruptions after the suites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Files = dict[str, Any]
"""Source -> frame of texts, or bytes."""
FLIGHTS = [
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour",
]  # fmt: skip
USED = [column for column in FLIGHTS if column not in ("year", "month", "day", "time_hour")]
WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]


@dataclass(frozen=True)
class Mutant:
    """One corruption: `apply` makes the month's files, given the clean ones and those of the months around."""

    family: str
    name: str
    apply: Callable[[dict[str, Files]], Files]


def to_bytes(frame: pd.DataFrame) -> bytes:
    """A frame of texts as the CSV that it came from."""
    return bytes(frame.to_csv(index=False).encode())


def mutants(seed: int) -> list[Mutant]:
    """All corruptions of raw files that a seed gives, in a fixed order."""
    made: list[Mutant] = []
    for number, family in enumerate(FAMILIES):
        rng = np.random.default_rng([seed, number])
        made += [Mutant(family.__name__.replace("_", " "), name, apply) for name, apply in family(rng)]
    return made


Made = Iterator[tuple[str, Callable[[dict[str, Files]], Files]]]


def _change(source: str, change: Callable[[pd.DataFrame], Any]) -> Callable[[dict[str, Files]], Files]:
    """A mutant that changes one source's frame; `change` returns a frame or bytes."""
    return lambda months: {**months["now"], source: change(months["now"][source].copy())}


def _numbers(frame: pd.DataFrame, column: str) -> pd.Series:
    return pd.to_numeric(frame[column], errors="coerce")


def _texts(values: pd.Series) -> pd.Series:
    """Numbers as the files write them: whole ones without a point, a missing one empty."""
    whole = values.dropna().mod(1).eq(0).all()
    return values.map(lambda v: "" if pd.isna(v) else str(int(v)) if whole else f"{v:.10g}")


def _scaled(column: str, change: Callable[[pd.Series], pd.Series]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def scale(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = _texts(change(_numbers(frame, column)))
        return frame

    return scale


def _some(rng: np.random.Generator, columns: list[str], count: int) -> list[str]:
    return [str(c) for c in rng.choice(columns, count, replace=False)]


def _shift(frame: pd.DataFrame, hours: float, rows: Any = slice(None)) -> pd.DataFrame:
    moments = pd.to_datetime(frame.loc[rows, "time_hour"], utc=True) + pd.Timedelta(hours=hours)
    frame.loc[rows, "time_hour"] = moments.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return frame


def dropped_column(rng: np.random.Generator) -> Made:
    for source, columns, count in (("flights", FLIGHTS, 7), ("weather", WEATHER, 3), ("planes", ["year", "seats"], 2)):
        for column in _some(rng, columns, count):
            yield f"{source}.{column}", _change(source, lambda f, c=column: f.drop(columns=c))


def renamed_column(rng: np.random.Generator) -> Made:
    for column in _some(rng, FLIGHTS, 6):
        yield f"flights.{column}", _change("flights", lambda f, c=column: f.rename(columns={c: c.title()}))
    yield "weather.temp", _change("weather", lambda f: f.rename(columns={"temp": "temperature"}))


def retyped_column(rng: np.random.Generator) -> Made:
    for column in _some(rng, ["dep_delay", "arr_delay", "air_time", "distance", "hour", "flight"], 5):
        yield f"flights.{column} with a unit", _change("flights", lambda f, c=column: f.assign(**{c: f[c] + " min"}))
    yield (
        "flights.dep_delay as a float",
        _change("flights", lambda f: f.assign(dep_delay=f["dep_delay"].replace("", "0") + ".5")),
    )
    yield "flights.time_hour as text", _change("flights", lambda f: f.assign(time_hour="on " + f["time_hour"]))
    yield "weather.temp as text", _change("weather", lambda f: f.assign(temp=f["temp"] + " F"))


def null_column(rng: np.random.Generator) -> Made:
    for column in _some(rng, USED, 9):
        yield f"flights.{column}", _change("flights", lambda f, c=column: f.assign(**{c: ""}))
    for column in _some(rng, WEATHER, 4):
        yield f"weather.{column}", _change("weather", lambda f, c=column: f.assign(**{c: ""}))


def null_share(rng: np.random.Generator) -> Made:
    for column in _some(rng, USED, 8):
        share = float(rng.uniform(0.2, 0.9))
        seed = int(rng.integers(1 << 30))

        def blank(f: pd.DataFrame, c: str = column, share: float = share, seed: int = seed) -> pd.DataFrame:
            f.loc[np.random.default_rng(seed).random(len(f)) < share, c] = ""
            return f

        yield f"flights.{column}, {share:.0%}", _change("flights", blank)


def null_group(rng: np.random.Generator) -> Made:
    for column in _some(rng, ["dep_delay", "arr_delay", "tailnum", "air_time", "arr_time"], 4):
        origin = str(rng.choice(["EWR", "JFK", "LGA"]))
        yield (
            f"flights.{column} of {origin}",
            _change("flights", lambda f, c=column, o=origin: f.assign(**{c: f[c].where(f["origin"] != o, "")})),
        )
    yield "weather.temp of JFK", _change("weather", lambda f: f.assign(temp=f["temp"].where(f["origin"] != "JFK", "")))


def duplicates(rng: np.random.Generator) -> Made:
    for source in ("flights", "weather", "planes"):
        yield f"{source} twice", _change(source, lambda f: pd.concat([f, f]))
        share = float(rng.uniform(0.001, 0.2))
        seed = int(rng.integers(1 << 30))
        yield (
            f"{share:.1%} of {source} twice",
            _change(source, lambda f, s=share, r=seed: pd.concat([f, f.sample(frac=s, random_state=r)])),
        )
    yield "one flight twice", _change("flights", lambda f: pd.concat([f, f.tail(1)]))
    yield (
        "flights twice with other delays",
        _change("flights", lambda f: pd.concat([f, f.head(500).assign(dep_delay="7", arr_delay="9")])),
    )


def unit_change(rng: np.random.Generator) -> Made:
    units: list[tuple[str, str, str, Callable[[pd.Series], pd.Series]]] = [
        ("flights", "distance", "km", lambda v: (v * 1.609344).round()),
        ("flights", "air_time", "hours", lambda v: (v / 60).round()),
        ("flights", "air_time", "seconds", lambda v: v * 60),
        ("flights", "dep_delay", "seconds", lambda v: v * 60),
        ("flights", "arr_delay", "seconds", lambda v: v * 60),
        ("flights", "arr_delay", "hours", lambda v: (v / 60).round()),
        ("weather", "temp", "C", lambda v: (v - 32) / 1.8),
        ("weather", "dewp", "C", lambda v: (v - 32) / 1.8),
        ("weather", "temp", "K", lambda v: (v - 32) / 1.8 + 273.15),
        ("weather", "wind_speed", "m/s", lambda v: v * 0.44704),
        ("weather", "wind_speed", "km/h", lambda v: v * 1.609344),
        ("weather", "wind_speed", "knots", lambda v: v / 1.15078),
        ("weather", "pressure", "inHg", lambda v: v * 0.02953),
        ("weather", "visib", "km", lambda v: v * 1.609344),
        ("weather", "precip", "mm", lambda v: v * 25.4),
        ("weather", "humid", "a share", lambda v: v / 100),
    ]
    for source, column, unit, change in units:
        yield f"{source}.{column} in {unit}", _change(source, _scaled(column, change))

    def celsius(f: pd.DataFrame) -> pd.DataFrame:
        for column in ("temp", "dewp"):
            f = _scaled(column, lambda v: (v - 32) / 1.8)(f)
        return f

    yield "weather in C throughout", _change("weather", celsius)


def shifted_clock(rng: np.random.Generator) -> Made:
    for source in ("flights", "weather"):
        for hours in (1, -1, -5, 5, 24):
            yield f"{source}.time_hour by {hours:+d} h", _change(source, lambda f, h=hours: _shift(f, h))
        yield f"half of {source} by one hour", _change(source, lambda f: _shift(f, 1, f.index[len(f) // 2 :]))
    yield "flights.hour by one", _change("flights", _scaled("hour", lambda v: (v + 1) % 24))
    yield "flights.sched_dep_time by an hour", _change("flights", _scaled("sched_dep_time", lambda v: (v + 100) % 2400))
    yield "flights.day by one", _change("flights", _scaled("day", lambda v: v % 28 + 1))
    yield "flights.minute by thirty", _change("flights", _scaled("minute", lambda v: (v + 30) % 60))


def swapped_columns(rng: np.random.Generator) -> Made:
    pairs = [("dep_delay", "arr_delay"), ("origin", "dest"), ("sched_dep_time", "dep_time"), ("hour", "minute"),
             ("dep_time", "arr_time"), ("sched_arr_time", "arr_time"), ("flight", "distance"),
             ("carrier", "tailnum")]  # fmt: skip
    others = [("temp", "dewp"), ("temp", "humid"), ("wind_speed", "wind_gust"), ("precip", "visib"),
              ("pressure", "humid")]  # fmt: skip
    for source, listed in (("flights", pairs), ("weather", others)):
        for a, b in listed:
            yield f"{source}.{a} and {b}", _change(source, lambda f, a=a, b=b: f.assign(**{a: f[b], b: f[a]}))


def truncated(rng: np.random.Generator) -> Made:
    for source in ("flights", "weather", "planes"):
        at = float(rng.uniform(0.1, 0.99))
        yield (
            f"{source} cut within a line at {at:.0%}",
            _change(source, lambda f, at=at: to_bytes(f)[: int(len(to_bytes(f)) * at)]),
        )
    for share in (0.3, 0.5, 0.8, 0.95):
        yield f"the first {share:.0%} of flights", _change("flights", lambda f, s=share: f.head(int(len(f) * s)))
    yield "half of the weather", _change("weather", lambda f: f.head(len(f) // 2))
    yield "half of the planes", _change("planes", lambda f: f.head(len(f) // 2))
    origin = str(rng.choice(["EWR", "JFK", "LGA"]))
    yield f"flights without {origin}", _change("flights", lambda f: f[f["origin"] != origin])
    yield f"weather without {origin}", _change("weather", lambda f: f[f["origin"] != origin])
    day = str(rng.integers(2, 27))
    yield f"flights without day {day}", _change("flights", lambda f: f[f["day"] != day])
    yield "flights without the last day", _change("flights", lambda f: f[f["day"] != f["day"].iloc[-1]])
    yield "flights without United", _change("flights", lambda f: f[f["carrier"] != "UA"])
    yield "flights that were late left out", _change("flights", lambda f: f[~(_numbers(f, "arr_delay") > 15)])


def encoding(rng: np.random.Generator) -> Made:
    yield "UTF-16", _change("flights", lambda f: to_bytes(f).decode().encode("utf-16"))
    yield "a byte order mark", _change("flights", lambda f: b"\xef\xbb\xbf" + to_bytes(f))
    yield (
        "latin-1 in a name",
        _change("planes", lambda f: to_bytes(f).replace(b"BOEING", "BÖING".encode("latin-1"), 400)),
    )
    yield "zero bytes", _change("flights", lambda f: to_bytes(f).replace(b"UA", b"U\x00", 50))
    yield "carriage returns", _change("flights", lambda f: to_bytes(f).replace(b"\n", b"\r\n"))
    where = rng.integers(2000, 100_000, 40)

    def flipped(f: pd.DataFrame) -> bytes:
        data = bytearray(to_bytes(f))
        for at in where:
            data[int(at)] ^= 0xFF
        return bytes(data)

    yield "forty broken bytes", _change("flights", flipped)
    import gzip

    yield "gzip under a plain name", _change("flights", lambda f: gzip.compress(to_bytes(f)))


def layout(rng: np.random.Generator) -> Made:
    yield "semicolons", _change("flights", lambda f: f.to_csv(index=False, sep=";").encode())
    yield "tabs", _change("weather", lambda f: f.to_csv(index=False, sep="\t").encode())
    yield "everything quoted", _change("flights", lambda f: f.to_csv(index=False, quoting=1).encode())
    yield (
        "decimal commas",
        _change(
            "weather",
            lambda f: to_bytes(f.assign(temp='"' + f["temp"].str.replace(".", ",") + '"')).replace(b'"""', b'"'),
        ),
    )
    yield "no header", _change("flights", lambda f: f.to_csv(index=False, header=False).encode())
    yield (
        "the header twice",
        _change(
            "flights", lambda f: to_bytes(pd.concat([pd.DataFrame([dict(zip(f.columns, f.columns, strict=True))]), f]))
        ),
    )
    yield "one more column", _change("flights", lambda f: f.assign(gate="A1"))
    yield "other order of columns", _change("flights", lambda f: f[list(reversed(f.columns))])
    yield "capital names", _change("flights", lambda f: f.rename(columns=str.upper))
    yield "a line with a field too many", _change("flights", lambda f: to_bytes(f).replace(b"\n2013,", b"\n2013,1,", 3))


def stuck_column(rng: np.random.Generator) -> Made:
    for column in _some(rng, USED, 9):
        yield f"flights.{column}", _change("flights", lambda f, c=column: f.assign(**{c: f[c][f[c] != ""].iloc[0]}))
    for column in _some(rng, WEATHER, 4):
        yield f"weather.{column}", _change("weather", lambda f, c=column: f.assign(**{c: f[c][f[c] != ""].iloc[0]}))


def wrong_time(rng: np.random.Generator) -> Made:
    for source in ("flights", "weather"):
        yield f"next month's {source}", lambda months, s=source: {**months["now"], s: months["next"][s]}
        yield f"last month's {source}", lambda months, s=source: {**months["now"], s: months["last"][s]}
        yield f"{source} of a year later", _change(source, lambda f: _shift(f.assign(year="2014"), 24 * 365))
    yield (
        "some flights in 2099",
        _change("flights", lambda f: f.assign(year=f["year"].where(f.index % 50 != 0, "2099"))),
    )
    yield (
        "last month's flights with the dates moved",
        lambda months: {
            **months["now"],
            "flights": _shift(months["last"]["flights"].copy(), 24 * 31).assign(
                month=months["now"]["flights"]["month"].iloc[0]
            ),
        },
    )


def colliding_keys(rng: np.random.Generator) -> Made:
    yield "one flight number", _change("flights", lambda f: f.assign(flight="1"))
    yield "one tail number", _change("flights", lambda f: f.assign(tailnum="N14228"))
    yield "flight numbers modulo 10", _change("flights", _scaled("flight", lambda v: v % 10))
    yield "planes registered twice", _change("planes", lambda f: pd.concat([f, f.head(30).assign(seats="9")]))
    yield "no carrier", _change("flights", lambda f: f.assign(carrier="XX"))


def empty_file(rng: np.random.Generator) -> Made:
    for source in ("flights", "weather", "planes"):
        yield f"{source}: nothing", _change(source, lambda f: b"")
        yield f"{source}: the header", _change(source, lambda f: f.head(0))
    yield "flights: a line break", _change("flights", lambda f: b"\n")


def flipped_sign(rng: np.random.Generator) -> Made:
    for column in ("dep_delay", "arr_delay", "air_time", "distance"):
        yield f"flights.{column}", _change("flights", _scaled(column, lambda v: -v))
    for column in ("temp", "dewp"):
        yield f"weather.{column}", _change("weather", _scaled(column, lambda v: -v))


def outliers(rng: np.random.Generator) -> Made:
    for source, columns in (
        ("flights", ["dep_delay", "arr_delay", "air_time", "distance"]),
        ("weather", ["temp", "pressure", "precip", "humid"]),
    ):
        for column in columns:
            step = int(rng.integers(50, 200))

            def burst(f: pd.DataFrame, c: str = column, step: int = step) -> pd.DataFrame:
                values = _numbers(f, c)
                f[c] = _texts(values.where(np.arange(len(f)) % step != 0, values * 1000 + 7))
                return f

            yield f"{source}.{column}, one in {step}", _change(source, burst)


def rounded(rng: np.random.Generator) -> Made:
    yield "flights.dep_delay to 60", _change("flights", _scaled("dep_delay", lambda v: (v / 60).round() * 60))
    yield "flights.arr_delay to 30", _change("flights", _scaled("arr_delay", lambda v: (v / 30).round() * 30))
    yield "flights.distance to 100", _change("flights", _scaled("distance", lambda v: (v / 100).round() * 100))
    yield "weather.temp to 10", _change("weather", _scaled("temp", lambda v: (v / 10).round() * 10))
    yield "weather.wind_speed to whole", _change("weather", _scaled("wind_speed", lambda v: v.round()))
    yield "weather.visib to whole", _change("weather", _scaled("visib", lambda v: v.round()))


def drifting_categories(rng: np.random.Generator) -> Made:
    yield "carriers in lower case", _change("flights", lambda f: f.assign(carrier=f["carrier"].str.lower()))
    yield "origins in lower case", _change("flights", lambda f: f.assign(origin=f["origin"].str.lower()))
    yield "origins with a blank", _change("flights", lambda f: f.assign(origin=f["origin"] + " "))
    yield "destinations with a blank", _change("flights", lambda f: f.assign(dest=f["dest"] + " "))
    yield "Newark renamed", _change("flights", lambda f: f.assign(origin=f["origin"].replace("EWR", "NWK")))
    for share in (0.05, 0.4):
        seed = int(rng.integers(1 << 30))

        def recoded(f: pd.DataFrame, share: float = share, seed: int = seed) -> pd.DataFrame:
            f.loc[np.random.default_rng(seed).random(len(f)) < share, "carrier"] = "ZZ"
            return f

        yield f"a new carrier on {share:.0%}", _change("flights", recoded)
    yield "weather of another airport", _change("weather", lambda f: f.assign(origin=f["origin"].replace("LGA", "TEB")))


def shuffled(rng: np.random.Generator) -> Made:
    for source, columns in (
        ("flights", ["arr_delay", "dep_delay", "tailnum", "carrier", "dest", "distance"]),
        ("weather", ["temp", "wind_speed", "visib", "pressure"]),
    ):
        for column in columns:
            seed = int(rng.integers(1 << 30))
            yield (
                f"{source}.{column}",
                _change(
                    source,
                    lambda f, c=column, s=seed: f.assign(**{c: np.random.default_rng(s).permutation(f[c].to_numpy())}),
                ),
            )
    seed = int(rng.integers(1 << 30))

    def together(f: pd.DataFrame) -> pd.DataFrame:
        order = np.random.default_rng(seed).permutation(len(f))
        columns = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
        f[columns] = f[columns].to_numpy()[order]
        return f

    yield "flights: all that happened, against what was scheduled", _change("flights", together)


FAMILIES = (
    dropped_column, renamed_column, retyped_column, null_column, null_share, null_group, duplicates, unit_change,
    shifted_clock, swapped_columns, truncated, encoding, layout, stuck_column, wrong_time, colliding_keys, empty_file,
    flipped_sign, outliers, rounded, drifting_categories, shuffled,
)  # fmt: skip
