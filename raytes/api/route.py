"""A route as the API has them: what it is asked is checked in one go.

FastAPI checks parameter by parameter and keeps stacks of contexts open for dependencies, which
takes it longer than it takes us to answer. What an endpoint's signature says stays FastAPI's
for the OpenAPI document; at a request, one pydantic model made of the same signature checks it.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError, create_model
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from raytes.api.invalid import InvalidDocument, from_pydantic

Endpoint = Callable[..., Awaitable[Response]]


class Route(APIRoute):
    """A route whose endpoint takes the request, parameters of the path and of the query, or
    nothing, and returns the response."""

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        signature = inspect.signature(endpoint)
        self._takes_request = "request" in signature.parameters
        self._parameters = _Parameters(signature)
        # In place of FastAPI's: what this raises is handled by the application around it.
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        values = self._parameters.of(scope)
        if self._takes_request:
            values["request"] = Request(scope, receive)
        response = await self.endpoint(**values)
        await response(scope, receive, send)


class _Parameters:
    """The parameters of an endpoint: their names, types and defaults."""

    def __init__(self, signature: inspect.Signature) -> None:
        parameters = [p for p in signature.parameters.values() if p.name != "request"]
        fields: dict[str, Any] = {
            p.name: (p.annotation, ... if p.default is p.empty else p.default) for p in parameters
        }
        self._names = frozenset(fields)
        self._lists = {p.name for p in parameters if _type_of(p.annotation) is list}
        self._model: type[BaseModel] = create_model("Parameters", **fields)

    def of(self, scope: Scope) -> dict[str, Any]:
        """Those of one request. What the endpoint doesn't know is passed over; of a value that
        is given several times where one is expected, the last counts.

        Raises:
            InvalidDocument: they have mistakes; all of them are named.
        """
        if not self._names:
            return {}
        given: dict[str, Any] = {}
        if query := scope["query_string"]:
            for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
                if name in self._lists:
                    given.setdefault(name, []).append(value)
                else:
                    given[name] = value
        given |= scope["path_params"]
        try:
            return self._model.model_validate(given).__dict__
        except ValidationError as error:
            raise InvalidDocument(from_pydantic(error.errors(include_url=False))) from None


def _type_of(annotation: Any) -> Any:
    """What `Annotated[list[str], …]` is without its words and its items."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_origin(annotation) or annotation
