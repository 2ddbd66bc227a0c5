"""What is done again and again beside something else."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def meanwhile(act: Callable[[], object], pause: Callable[[], float]) -> Iterator[None]:
    """Act again and again while in this block, after a pause (seconds) each time.

    Raises: at the end of the block, what `act` has raised.
    """
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(pause()):
            act()

    with ThreadPoolExecutor(1) as thread:
        acting = thread.submit(go_on)
        try:
            yield
        finally:
            over.set()
        acting.result()
