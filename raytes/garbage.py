"""What a long-lived actor does about Ray's garbage collections.

Ray has every worker collect whenever an actor waits for resources, so again and again while tasks
queue. A full collection goes through all that was ever imported: 30 ms in which the process does
nothing else.
"""

import gc


def spare_what_is_there() -> None:
    """Leave all objects that there are now out of later collections: they are here to stay."""
    gc.collect()
    gc.freeze()
