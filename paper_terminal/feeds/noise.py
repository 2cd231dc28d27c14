"""Noise that is a pure function of place: the same wherever and whenever it is asked for."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNIT_UNIFORM = math.sqrt(3.0)
"""Half the width of a uniform distribution of variance 1."""


def noise_at(key: int, at: Floats, periods: Floats) -> Floats:
    """Return smooth noise of unit variance, shape (len(at), len(periods)): a pure function of key and place.

    Each period has its own lattice of hashed values, joined by an S-curve.
    """
    place = at[:, None] / periods[None, :]
    cell = np.floor(place)
    fraction = place - cell
    smooth = fraction * fraction * (3.0 - 2.0 * fraction)
    lane = np.arange(len(periods), dtype=np.uint64)[None, :] * np.uint64(0xD1B54A32D192ED03)
    salt = lane ^ np.uint64(key & 0xFFFFFFFFFFFFFFFF)
    left = hashed(cell.astype(np.uint64) ^ salt)
    right = hashed((cell + 1.0).astype(np.uint64) ^ salt)
    return left + (right - left) * smooth


def hashed(values: NDArray[np.uint64]) -> Floats:
    """Map integers to uniform noise of mean 0 and variance 1 (the finaliser of splitmix64)."""
    mixed = values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    noise: Floats = (2.0 * uniform - 1.0) * UNIT_UNIFORM
    return noise
