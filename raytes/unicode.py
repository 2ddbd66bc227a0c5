"""Text that can be written as UTF-8. Names of files needn't be: what isn't stands in Python's
strings as lone surrogates, which neither a JSON document nor a database takes.
"""

import re
from typing import Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it has no lone surrogates."""
    return _SURROGATE.search(text) is None


def as_unicode(text: str) -> str:
    """`text` with U+FFFD, the replacement character, in place of each lone surrogate."""
    return _SURROGATE.sub("\ufffd", text)
