"""Cross-origin requests: which websites' scripts may use the API. By default none."""

from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from raytes.api.problems import problem


class CrossOrigin(CORSMiddleware):
    """Answers browsers that ask on behalf of other websites.

    Parameters:
        origins: the websites, as scheme, host and port; `*` is any.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("Authorization",),
            expose_headers=("Retry-After", "WWW-Authenticate"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks before it sends; a refusal is a problem too."""
        answer = super().preflight_response(request_headers)
        if answer.status_code != HTTPStatus.BAD_REQUEST:
            return answer
        refused = bytes(answer.body).decode()
        headers = {"Vary": answer.headers["Vary"]}
        return problem(HTTPStatus.BAD_REQUEST, refused, headers=headers)
