"""The one shape of an error: RFC 9457, `application/problem+json`."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raytes.api.invalid import FieldError, InvalidDocument, from_pydantic

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def problem(
    status: int,
    title: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A reply that says what went wrong.

    Parameters:
        status: the HTTP status.
        title: what kind of problem it is, the same each time.
        detail: a sentence on this occurrence, which says what to do.
        errors: the mistakes in what was sent, each with its field.
    """
    content: dict[str, object] = {"status": status, "title": title, "detail": _utf8(detail)}
    if errors:
        content["errors"] = [{"field": _utf8(e.field), "message": _utf8(e.message)} for e in errors]
    body = orjson.dumps(content)
    return Response(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _utf8(text: str) -> str:
    """A message may quote a file name, and file names may be no text."""
    return text.encode(errors="replace").decode()


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem in this shape."""
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(InvalidDocument)(_invalid_document)
    app.exception_handler(RequestValidationError)(_invalid_request)
    app.add_middleware(_UnexpectedErrors)


async def _http_error(request: Request, error: HTTPException) -> Response:
    title = HTTPStatus(error.status_code).phrase
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request))
        detail = f"{request.method} is not possible at {request.url.path}, only {allowed}"
        return problem(error.status_code, title, detail, headers={"Allow": allowed})
    detail = str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND and detail == title:
        detail = f"there is nothing at {request.url.path}"
    return problem(error.status_code, title, detail, headers=error.headers)


def _methods(request: Request) -> list[str]:
    """Those that the path has. The router's own 405 knows of its first route only."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _invalid_document(_: Request, error: InvalidDocument) -> Response:
    return _bad_request(error.errors)


async def _invalid_request(_: Request, error: RequestValidationError) -> Response:
    # The first part of a path is where the value stands: query, path, header or body.
    return _bad_request(from_pydantic(error.errors(), skip=1))


def _bad_request(errors: Sequence[FieldError]) -> Response:
    detail = "the request has mistakes: `errors` names each with its field"
    return problem(400, HTTPStatus.BAD_REQUEST.phrase, detail, errors)


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
            response = problem(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase, detail)
            await response(scope, receive, send)
