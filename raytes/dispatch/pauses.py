"""Pauses between tries that fail again and again."""

# More doublings than any pause needs, and few enough to be a number.
_DOUBLINGS = 1000


def growing_pause(number: int, first: float, longest: float) -> float:
    """Seconds of a pause, the first of which is number 1 and takes `first`. Each takes twice as
    long as the one before, up to `longest`."""
    return min(first * 2.0 ** min(number - 1, _DOUBLINGS), longest)
