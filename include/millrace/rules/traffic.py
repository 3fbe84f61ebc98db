"""Which of two versions a unit meets: a keyed hash, the same on every server and at every later look. Pure.

A unit (an entity, a user, a request that names none) has one point in [0, 1) throughout a rollout. The new version has
the points below its share: as the share grows, units that met it stay with it.
"""

from __future__ import annotations

import hashlib

_BITS = 53
"""Of a hash: as many as a float holds exactly."""


def point(salt: str, unit: str) -> float:
    """Where a unit lies in [0, 1); units are spread evenly, and otherwise for another salt."""
    made = hashlib.blake2b(unit.encode(), key=hashlib.sha256(salt.encode()).digest(), digest_size=8).digest()
    return (int.from_bytes(made, "big") >> (64 - _BITS)) / (1 << _BITS)


def meets_new(salt: str, unit: str, share: float) -> bool:
    """Whether a unit meets the new version while that has a share of the units."""
    return point(salt, unit) < share


def name(salt: str, unit: str) -> str:
    """What stands for a unit in what is counted, which must not tell who it is."""
    return hashlib.blake2b(
        unit.encode(), key=hashlib.sha256(b"name" + salt.encode()).digest(), digest_size=6
    ).hexdigest()
