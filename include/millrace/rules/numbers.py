"""Numbers that a model may meet. Pure."""

from __future__ import annotations

LARGEST = 3.4028234663852886e38
"""Largest number of a feature, a label of a regression, or a prediction, without its sign: that of float32.

Learners compute in float32, where more than this is infinite; and squares of such numbers, and their sums over any
number of rows, stay finite in float64, so that no loss and no metric overflows.
"""
