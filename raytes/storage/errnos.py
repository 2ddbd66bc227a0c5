"""What the kernel's error numbers mean for a task."""

import errno
from typing import Final

FULL: Final = {errno.ENOSPC, errno.EDQUOT}
"""There is no room for what is to be written."""

PASSING_ELSEWHERE: Final = FULL | {errno.EIO, errno.ESTALE}
"""A disk doesn't do it now, and may do it later, or that of another node may."""

UNREACHABLE: Final = {errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN}
"""There is no way to a server now."""
