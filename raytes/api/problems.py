"""The one shape of an error: RFC 9457, `application/problem+json`."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raytes.api.invalid import FieldError, InvalidDocument, shortened
from raytes.unicode import as_unicode

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

SCHEMA = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["status", "title", "detail"],
    "properties": {
        "status": {"type": "integer", "description": "The HTTP status."},
        "title": {"type": "string", "description": "What kind of problem it is."},
        "detail": {"type": "string", "description": "What happened, and what to do."},
        "errors": {
            "type": "array",
            "description": "The mistakes in what was sent.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {
                    "field": {
                        "type": "string",
                        "description": "The path of the field (`executors[0].command`) or the "
                        "name of the parameter; empty: the whole document.",
                    },
                    "message": {"type": "string", "description": "What is wrong with it."},
                },
            },
        },
    },
}
"""The shape, as the OpenAPI document has it under the name `Problem`."""

_MEANINGS = {
    HTTPStatus.BAD_REQUEST: "The request has mistakes; `errors` names each with its field.",
    HTTPStatus.FORBIDDEN: "A script of another website asks; `detail` says how to allow it.",
    HTTPStatus.NOT_FOUND: "There is no task of that id.",
    HTTPStatus.MISDIRECTED_REQUEST: "The `Host` isn't this service's; `detail` says which are.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many tasks wait; try again after `Retry-After` seconds.",
    HTTPStatus.SERVICE_UNAVAILABLE: "`detail` says whether anything may have been changed; try "
    "again after `Retry-After` seconds.",
}


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, as FastAPI's `responses` has it."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        int(status): {"description": _MEANINGS[status], "content": {MEDIA_TYPE: schema}}
        for status in statuses
    }


def problem(
    status: int,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> Response:
    """A reply that says what went wrong.

    Parameters:
        status: the HTTP status.
        detail: a sentence on this occurrence, which says what to do.
        errors: the mistakes in what was sent, each with its field.
        more: members beside those of every problem.
    """
    title = HTTPStatus(status).phrase
    content: dict[str, object] = {"status": status, "title": title, "detail": as_unicode(detail)}
    content |= more or {}
    if errors:
        content["errors"] = [
            {"field": as_unicode(e.field), "message": as_unicode(e.message)} for e in errors
        ]
    body = orjson.dumps(content)
    # A task that isn't there may be there soon, and a 404 may be kept for long.
    return Response(
        body,
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def install(app: Starlette) -> None:
    """Makes every error of the application a problem in this shape."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(InvalidDocument, _invalid_document)
    app.add_middleware(_UnexpectedErrors)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if detail == HTTPStatus.NOT_FOUND.phrase:  # the router's, for a path that it doesn't know
        detail = f"there is nothing at {shortened(request.scope['path'])}"
    return problem(error.status_code, detail, headers=error.headers)


async def _invalid_document(_: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidDocument)
    detail = "the request has mistakes: `errors` names each with its field"
    return problem(HTTPStatus.BAD_REQUEST, detail, error.errors)


class _UnexpectedErrors:
    """Logs an exception that nothing else has handled, and answers 500 without its details.

    A middleware, because the framework raises such an exception again after its handler has
    answered, and the server around it would log it once more or drop the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception:
            if started or scope["type"] != "http":
                raise
            _log.exception("%s %s failed", scope["method"], scope["path"])
            detail = "the server failed; its log says why"
            response = problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
            await response(scope, receive, send)
