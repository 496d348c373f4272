"""Random numbers that are a function of where they are used, not of what was drawn before.

Every draw is a hash (splitmix64, Steele et al. 2014, "Fast splittable pseudorandom number generators") of a seed, an
environment, an episode, a step and the draw's own number. So environment i of a batch sees the same numbers as that
environment alone, and a partial reset disturbs nobody.
"""

import numpy as np
from jaxtyping import Float64, Int64, UInt64
from numba import njit
from numpy import ndarray

from core.errors import InputError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@njit(cache=True, nogil=True, inline="always")
def scrambled(value):
    """Splitmix64's output function of one np.uint64, for compiled code."""
    value += _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


def _mix(value: UInt64[ndarray, "*s"]) -> UInt64[ndarray, "*s"]:
    """Splitmix64's output function; integer overflow is meant."""
    value = value + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


def _words(value: Int64[ndarray, "*s"] | int) -> UInt64[ndarray, "*s"]:
    return np.atleast_1d(np.asarray(value, dtype=np.int64)).view(np.uint64)


def episode_key(
    seed: Int64[ndarray, " B"] | int, env: Int64[ndarray, " B"] | int, episode: Int64[ndarray, " B"] | int
) -> Int64[ndarray, " B"]:
    """The key of one episode of one environment: all its draws hang on this number.

    Raises:
        InputError: a seed is negative.
    """
    if np.min(seed) < 0:
        raise InputError(f"seed={np.min(seed)} does not work as a seed; give a whole number from 0 to 2**63 - 1")
    return _mix(_mix(_mix(_words(seed)) ^ _words(env)) ^ _words(episode)).view(np.int64)


def uniform(
    key: Int64[ndarray, " B"], step: Int64[ndarray, " B"] | int, draw: Int64[ndarray, " B"] | int
) -> Float64[ndarray, " B"]:
    """Draw number `draw` of a step of the episodes `key`, uniform in [0, 1)."""
    bits = _mix(_mix(_words(key) ^ _mix(_words(step))) ^ _words(draw))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(
    key: Int64[ndarray, " B"], step: Int64[ndarray, " B"] | int, draw: int, bound: Int64[ndarray, " B"] | int
) -> Int64[ndarray, " B"]:
    """A whole number in [0, bound), uniform to one part in 2**53 / bound."""
    return np.floor(uniform(key, step, draw) * bound).astype(np.int64)


def normal(key: Int64[ndarray, " B"], step: Int64[ndarray, " B"] | int, draw: int) -> Float64[ndarray, " B"]:
    """Draw number `draw` of a step, standard normal (Box and Muller 1958); draws from 2**32 on are its second half."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(key, step, draw)))
    return radius * np.cos(2 * np.pi * uniform(key, step, draw + 2**32))
