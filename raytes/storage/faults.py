"""What stores answer when they don't do what they are asked, in one form and without secrets."""

import http.client
import socket
import ssl
from http import HTTPStatus

import aiohttp

from raytes.storage import errnos

_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""The HTTP statuses after which the same request may succeed."""


class Fault(Exception):
    """One request failed; the message is the reason, to be read after the URL."""

    def __init__(
        self,
        reason: str,
        *,
        passing: bool = False,
        elsewhere: bool = False,
        of_node: bool = False,
    ) -> None:
        super().__init__(reason)
        self.passing = passing
        """The same request may succeed in a moment."""
        self.transient = passing or elsewhere
        """Another attempt at the task may succeed, here or on another node."""
        self.of_node = of_node
        """It isn't the store that failed, but this node."""

    def at(self, place: str) -> "Fault":
        """The same fault, saying that it concerns `place`."""
        return Fault(
            f"{place}: {self}",
            passing=self.passing,
            elsewhere=self.transient,
            of_node=self.of_node,
        )


class Missing(Fault):
    """What was asked for isn't in the store."""

    def __init__(self, reason: str = "it doesn't exist") -> None:
        super().__init__(reason)


class Replaced(Fault):
    """What is in the store isn't the version that was asked for."""

    def __init__(self) -> None:
        super().__init__("it was replaced while it was being read", elsewhere=True)


class Changed(Fault):
    """A file isn't what it was when it began to be stored."""

    def __init__(self) -> None:
        super().__init__("it changed while it was being stored", passing=True)


class Forbidden(Fault):
    """On the way, a request came to what the service may not touch."""


def of_status(status: int, words: str = "") -> Fault:
    """The fault that an HTTP status stands for; `words` are the store's own."""
    if status == HTTPStatus.NOT_FOUND:
        return Missing()
    words = words or http.client.responses.get(status, "no known status")
    return Fault(f"the store answered {status} ({words})", passing=status in _PASSING)


def fault_of(error: Exception) -> Fault:
    """The fault behind an exception of Python, aiohttp or the local filesystem."""
    match error:
        case Fault():
            return error
        case aiohttp.ClientResponseError():  # its status is aiohttp's own, not the store's
            words = error.message.partition("\n")[0]  # then comes a piece of the answer
            return Fault(f"the store's answer is not HTTP ({words})", passing=True)
        case ssl.SSLCertVerificationError() | aiohttp.ClientConnectorCertificateError():
            return Fault("the store's certificate can't be verified")
        case TimeoutError():
            return Fault("the store didn't answer in time", passing=True)
        case socket.gaierror():
            return Fault(f"its host is not known ({error.strerror})", passing=True)
        case aiohttp.ClientError() | ConnectionError() | EOFError() | ssl.SSLEOFError():
            return Fault(f"the connection failed ({_words(error)})", passing=True)
        case FileNotFoundError():
            return Missing()
        case PermissionError():
            return Fault("access is denied")
        case OSError() if error.errno in errnos.UNREACHABLE:
            return Fault(f"the connection failed ({_words(error)})", passing=True)
        case OSError() if error.errno in errnos.FULL:
            return Fault("the node's disk is full", elsewhere=True, of_node=True)
        case OSError() if error.errno in errnos.PASSING_ELSEWHERE:
            return Fault(_words(error), elsewhere=True)
        case _:
            return Fault(_words(error))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
