"""The routes of TES 1.1: each parses, asks the store, and answers. They hold no state."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException

from raytes import ids
from raytes.api import problems
from raytes.api.invalid import FieldError, InvalidDocument, quoted
from raytes.api.parameters import Supported
from raytes.api.query import (
    DEFAULT_PAGE_SIZE,
    NamePrefix,
    PageSize,
    PageToken,
    StateFilter,
    TagKeys,
    TagValues,
    TaskId,
    ViewParameter,
)
from raytes.api.route import Route
from raytes.api.service_info import draft_service_info, service_info
from raytes.api.validation import parse_task
from raytes.config import Settings
from raytes.dispatch.shape import shape_of
from raytes.models import (
    BASE_PATH,
    TesCancelTaskResponse,
    TesCreateTaskResponse,
    TesListTasksResponse,
    TesServiceInfo,
    TesTask,
)
from raytes.moment import now
from raytes.storage import Storage
from raytes.store.client import StoreClient
from raytes.store.documents import NewTask, split_document
from raytes.store.pages import Filters, InvalidPageToken
from raytes.views import View

# From this size on, in bytes, checking a document would keep other requests waiting.
_ASIDE_FROM = 64 * 1024
# Until there is authentication, all tasks are everybody's.
_OWNER = ""


class _TaskIdConvertor(StringConvertor):
    """A task's id in a path. It has no colon: what follows one is what is to be done."""

    regex = "[^/:]+"


register_url_convertor("task_id", _TaskIdConvertor())


class JSON(Response):
    """JSON that is serialised already. What it shows may change at any moment."""

    media_type = "application/json"

    def __init__(self, content: bytes) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store"})


# The body is read by `parse_task`, which finds all mistakes; here it is only described.
_TASK_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/TesTask"}}},
    }
}


class TaskRoutes:
    """The routes, bound to one service's settings and store."""

    def __init__(self, settings: Settings, storage: Storage, parameters: Supported) -> None:
        self.store: StoreClient  # set when the application starts
        self._settings = settings
        self._storage = storage
        self._parameters = parameters
        self.router = self._router()

    def _router(self) -> APIRouter:
        router = APIRouter(prefix=BASE_PATH, route_class=Route, tags=["TaskService"])

        def add(
            method: str,
            path: str,
            name: str,
            endpoint: Callable[..., Awaitable[Response]],
            answer: type,
            *refusals: HTTPStatus,
            **more: Any,
        ) -> None:
            router.add_api_route(
                path,
                endpoint,
                methods=[method],
                operation_id=name,
                summary=name,
                response_model=answer,
                response_description="Done.",
                responses=problems.documented(
                    *refusals, HTTPStatus.MISDIRECTED_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE
                ),
                openapi_extra=more,
            )

        bad, missing = HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND
        full, foreign = HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.FORBIDDEN
        created, cancelled = TesCreateTaskResponse, TesCancelTaskResponse
        tasks, task, cancel = "/tasks", "/tasks/{id:task_id}", "/tasks/{id:task_id}:cancel"
        # Before `/tasks/{id}`, which would take it; in no document: the specification hasn't it.
        draft = ("/tasks/service-info", self.get_draft_service_info)
        router.add_api_route(*draft, methods=["GET"], include_in_schema=False)
        # What is asked most first: they are tried in this order.
        add("GET", task, "GetTask", self.get_task, TesTask, bad, missing)
        refusals = bad, foreign, full
        add("POST", tasks, "CreateTask", self.create_task, created, *refusals, **_TASK_BODY)
        add("GET", tasks, "ListTasks", self.list_tasks, TesListTasksResponse, bad)
        add("POST", cancel, "CancelTask", self.cancel_task, cancelled, foreign, missing)
        add("GET", "/service-info", "GetServiceInfo", self.get_service_info, TesServiceInfo)
        return router

    async def get_service_info(self) -> Response:
        """What this service is and offers."""
        facts = await run_in_threadpool(self.store.reader.facts)
        info = service_info(self._settings, facts, self._storage.locations(), self._parameters)
        return JSON(info.to_json())

    async def get_draft_service_info(self) -> Response:
        """The service's description as in the drafts before TES 1.0, and not a field more.

        py-tes 0.4, and so Toil, asks for nothing else and takes nothing else.
        """
        return JSON(draft_service_info(self._settings, self._storage.locations()))

    async def create_task(self, request: Request) -> Response:
        """Create a task. It is on disk before this answers."""
        body, content_type = await self._body(request), request.headers.get("content-type")
        if len(body) < _ASIDE_FROM:
            new = self._new_task(body, content_type)
        else:
            new = await run_in_threadpool(self._new_task, body, content_type)
        await self.store.create(new)
        return JSON(orjson.dumps({"id": new.id}))

    async def list_tasks(
        self,
        name_prefix: NamePrefix = "",
        state: StateFilter = None,
        tag_key: TagKeys = [],  # noqa: B006 (each call gets its own)
        tag_value: TagValues = [],  # noqa: B006
        page_size: PageSize = DEFAULT_PAGE_SIZE,
        page_token: PageToken = "",
        view: ViewParameter = View.MINIMAL,
    ) -> Response:
        """List tasks, the newest first."""
        filters = Filters.zipped(name_prefix, state or "", tag_key, tag_value, _OWNER)
        try:
            page = await run_in_threadpool(
                self.store.reader.page, filters, page_size, page_token, view
            )
        except InvalidPageToken as error:
            raise InvalidDocument([FieldError("page_token", str(error))]) from None
        return JSON(page)

    async def get_task(self, id: TaskId, view: ViewParameter = View.MINIMAL) -> Response:
        """Get one task."""
        task = await self.store.get(id, view)
        if task is None:
            raise _no_task(id)
        return JSON(task)

    async def cancel_task(self, id: TaskId) -> Response:
        """Cancel a task. One that has ended stays as it is."""
        if not await self.store.cancel(id):
            raise _no_task(id)
        return JSON(TesCancelTaskResponse().to_json())

    async def _body(self, request: Request) -> bytes:
        """The body, or as much of it as shows that it is too large."""
        body = bytearray()
        async for chunk in request.stream():
            # The rest is read all the same: who is still sending doesn't look for an answer.
            if len(body) <= self._settings.max_document_bytes:
                body += chunk
        return bytes(body)

    def _new_task(self, body: bytes, content_type: str | None) -> NewTask:
        submission = parse_task(
            body,
            content_type,
            max_document_bytes=self._settings.max_document_bytes,
            max_content_bytes=self._settings.max_content_bytes,
            check_input_url=self._storage.refusal_of_input,
            check_output_url=self._storage.refusal_of_output,
            supported_parameters=self._parameters,
        )
        task = submission.task
        created = now()
        urls = [item.url for item in [*(task.inputs or ()), *(task.outputs or ())] if item.url]
        shape = shape_of(
            task.resources, self._settings, serving=self._storage.needs_serving_node(urls)
        )
        document, contents = split_document(task)
        return NewTask(
            id=ids.mint(),
            owner=_OWNER,
            name=task.name,
            created=created,
            shape=shape.key(),
            document=document,
            contents=contents,
            tags=task.tags or {},
            warnings=tuple(f"{created} {warning}" for warning in submission.warnings),
        )


def _no_task(task_id: str) -> HTTPException:
    return HTTPException(HTTPStatus.NOT_FOUND, f"there is no task {quoted(task_id)}")
