"""Sample data of `millrace new`: made-up visits to a shop, alike every time, with something in them to learn."""

from __future__ import annotations

import csv
import io
import math
import random
from datetime import date, timedelta

FIRST, DAYS, VISITS = date(2024, 1, 1), 20, 400
REGIONS = {"north": -0.8, "south": 0.9, "east": 0.0, "west": 0.4}


def days() -> list[date]:
    """The days there are data for."""
    return [FIRST + timedelta(days=number) for number in range(DAYS)]


def visits(day: date) -> str:
    """A day's csv: 400 visits, whose orders depend on region, pages and minutes."""
    chance = random.Random(day.toordinal())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["visit_id", "time", "region", "pages", "minutes", "ordered"])
    for number in range(VISITS):
        seconds = number * 86400 // VISITS
        region = chance.choice(list(REGIONS))
        pages = 1 + int(chance.expovariate(0.3))
        minutes = round(pages * chance.uniform(0.3, 2.5), 2)
        score = REGIONS[region] + 0.25 * pages - 0.08 * minutes - 0.8
        ordered = int(chance.random() < 1 / (1 + math.exp(-score)))
        clock = f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"
        writer.writerow([f"{day:%Y%m%d}-{number:04d}", f"{day}T{clock}Z", region, pages, minutes, ordered])
    return out.getvalue()
