"""Task ids: URL-safe, unique, and in the order of creation when sorted as text."""

import os
import threading
import time

# Crockford's base 32 in lower case. In ASCII digits come before letters: text sorts as numbers.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# 26 characters: 48 bits of milliseconds and 80 random ones, two characters for ten bits.
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(120, -1, -10)
_RANDOM_BITS = 80

_lock = threading.Lock()
_last = 0


def mint() -> str:
    """A new id, greater than every id that this process has minted before."""
    global _last
    with _lock:
        milliseconds = time.time_ns() // 1_000_000
        fresh = milliseconds << _RANDOM_BITS | int.from_bytes(os.urandom(_RANDOM_BITS // 8), "big")
        # Two in one millisecond, or a clock set back: go on from the last one.
        _last = fresh if fresh > _last else _last + 1
        number = _last
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
