"""Which of two versions a unit meets: a keyed hash, the same on every server and at every later look. Pure.

A unit (an entity, a user, a request that names none) has one point in [0, 1) throughout a rollout. The new version has
the points below its share: as the share grows, units that met it stay with it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

_BITS = 53
"""Of a hash: as many as a float holds exactly."""


def point(salt: str, unit: str) -> float:
    """Where a unit lies in [0, 1); units are spread evenly, and otherwise for another salt."""
    made = _keyed(salt, 8).copy()
    made.update(unit.encode())
    return (int.from_bytes(made.digest(), "big") >> (64 - _BITS)) / (1 << _BITS)


def meets_new(salt: str, unit: str, share: float) -> bool:
    """Whether a unit meets the new version while that has a share of the units."""
    return point(salt, unit) < share


def name(salt: str, unit: str) -> str:
    """What stands for a unit in what is counted, which must not tell who it is."""
    made = _keyed("name" + salt, 6).copy()
    made.update(unit.encode())
    return made.hexdigest()


@lru_cache(maxsize=4096)
def _keyed(key: str, size: int) -> hashlib.blake2b:
    """A hash of this key and nothing yet, to be copied: to begin one takes longer than to hash a unit."""
    return hashlib.blake2b(key=hashlib.sha256(key.encode()).digest(), digest_size=size)
