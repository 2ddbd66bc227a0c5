"""Page tokens: where a list goes on, opaque, and bound to the filters of its first page."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

_DIGEST_BYTES = 12


class InvalidPageToken(ValueError):
    """The token wasn't made by this service for this list."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed to. A tag with the value "" matches any value."""

    name_prefix: str = ""
    state: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    owner: str = ""

    @classmethod
    def zipped(
        cls, name_prefix: str, state: str, keys: Sequence[str], values: Sequence[str], owner: str
    ) -> "Filters":
        """Filters with the query's `tag_key` and `tag_value` zipped by position.

        Where there are fewer values than keys, the keys left over match any value.
        """
        padded = [*values, *[""] * (len(keys) - len(values))]
        return cls(name_prefix, state, tuple(zip(keys, padded, strict=False)), owner)


def issue(last_id: str, filters: Filters, secret: bytes) -> str:
    """The token for the page behind the task `last_id`."""
    body = last_id.encode()
    return _encode(_digest(body, filters, secret) + body)


def redeem(token: str, filters: Filters, secret: bytes) -> str:
    """The id of the task behind which the page begins.

    Raises:
        InvalidPageToken: the token was altered, or was issued for other filters.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidPageToken("page_token is not one that this service has issued") from error
    digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    # Base 64 has bits to spare at its end: only the one spelling that was issued is good.
    genuine = hmac.compare_digest(digest, _digest(body, filters, secret))
    if not genuine or _encode(raw) != token:
        raise InvalidPageToken(
            "page_token is not one that this service has issued for these filters: "
            "send the filters of the first page with it, or begin again without a token"
        )
    return body.decode()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _digest(body: bytes, filters: Filters, secret: bytes) -> bytes:
    bound = repr((body, filters.name_prefix, filters.state, filters.tags, filters.owner))
    return hmac.new(secret, bound.encode(errors="surrogatepass"), hashlib.sha256).digest()[
        :_DIGEST_BYTES
    ]
