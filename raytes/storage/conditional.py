"""Writing only over what was seen: so a late attempt is stopped where nothing can be staged.

What an attempt sees before it asks for leave is older than whatever a later attempt writes. So
the store itself refuses it the write if a later one has been there: it then sees that one's
version, asks for leave anew, and gets none. Whoever gets it writes over what it saw last.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from raytes.storage.faults import Fault, Replaced
from raytes.storage.objects import Object, Outgoing

_TURNS: Final = 20  # writers of the same object at the same moment, more or less

NOTHING: Final = ""
"""The version of what isn't there."""


async def write_over_seen(
    file: Outgoing,
    find: Callable[[str], Awaitable[Object | None]],
    write: Callable[[str | None], Awaitable[None]],
) -> None:
    """Have `write` store a file where `find` looks, once the attempt has leave.

    `write` is given the version that it may replace, or None: whatever is there. It raises
    `Replaced` if there is another. What a store refuses for any other reason is tried without a
    condition: not every server knows conditions, or says so in the same way.

    Raises:
        Canceled: the attempt has no leave any more.
        Fault: the write failed for another reason.
    """
    seen: str | None = file.seen
    for _ in range(_TURNS):
        try:
            await write(seen)
        except Replaced:
            seen = await _version(file, find)
        except Fault as fault:
            if fault.passing or seen is None:
                raise
            seen = None
        else:
            return
        await file.ask()
    raise Fault("others keep replacing it", passing=True)


async def _version(file: Outgoing, find: Callable[[str], Awaitable[Object | None]]) -> str | None:
    try:
        found = await find(file.path)
    except Fault as fault:
        if fault.passing:
            raise
        return None  # who may write need not be allowed to look
    return NOTHING if found is None else found.version
