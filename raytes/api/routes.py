"""The routes of TES 1.1: each parses, asks the store, and answers. They hold no state."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from raytes import ids
from raytes.api.invalid import FieldError, InvalidDocument
from raytes.api.parameters import Supported
from raytes.api.service_info import service_info
from raytes.api.validation import Submission, parse_task
from raytes.config import Settings
from raytes.dispatch.shape import shape_of
from raytes.models import (
    TesCancelTaskResponse,
    TesCreateTaskResponse,
    TesListTasksResponse,
    TesServiceInfo,
    TesState,
    TesTask,
)
from raytes.storage import Storage
from raytes.store.client import StoreClient
from raytes.store.documents import NewTask, split_document
from raytes.store.pages import Filters, InvalidPageToken
from raytes.views import View

BASE_PATH = "/ga4gh/tes/v1"
DEFAULT_PAGE_SIZE = 256
MAX_PAGE_SIZE = 2047

# Until there is authentication, all tasks are everybody's.
_OWNER = ""

ViewParameter = Annotated[View, Query()]


class JSON(Response):
    """JSON that is serialised already. What it shows may change at any moment."""

    media_type = "application/json"

    def __init__(self, content: bytes) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store"})


class TaskRoutes:
    """The routes, bound to one service's settings and store."""

    def __init__(self, settings: Settings, storage: Storage, parameters: Supported) -> None:
        self.store: StoreClient  # set when the application starts
        self._settings = settings
        self._storage = storage
        self._parameters = parameters
        self.router = self._router()

    def _router(self) -> APIRouter:
        router = APIRouter(prefix=BASE_PATH, tags=["TaskService"])

        def add(path: str, method: str, endpoint: object, name: str, answer: type) -> None:
            router.add_api_route(
                path,
                endpoint,  # type: ignore[arg-type]
                methods=[method],
                operation_id=name,
                summary=name,
                response_model=answer,
            )

        add("/service-info", "GET", self.get_service_info, "GetServiceInfo", TesServiceInfo)
        add("/tasks", "GET", self.list_tasks, "ListTasks", TesListTasksResponse)
        add("/tasks", "POST", self.create_task, "CreateTask", TesCreateTaskResponse)
        add("/tasks/{id}", "GET", self.get_task, "GetTask", TesTask)
        add("/tasks/{id}:cancel", "POST", self.cancel_task, "CancelTask", TesCancelTaskResponse)
        return router

    async def get_service_info(self) -> Response:
        """What this service is and offers."""
        facts = await run_in_threadpool(self.store.reader.facts)
        info = service_info(self._settings, facts, self._storage.locations(), self._parameters)
        return JSON(info.to_json())

    async def create_task(self, request: Request) -> Response:
        """Create a task. It is on disk before this answers."""
        submission = parse_task(
            await self._body(request),
            request.headers.get("content-type"),
            max_document_bytes=self._settings.max_document_bytes,
            max_content_bytes=self._settings.max_content_bytes,
            check_input_url=self._storage.refusal_of_input,
            check_output_url=self._storage.refusal_of_output,
            supported_parameters=self._parameters,
        )
        new = self._new_task(submission)
        await self.store.create(new)
        return JSON(TesCreateTaskResponse(id=new.id).to_json())

    async def list_tasks(
        self,
        name_prefix: str = "",
        state: Annotated[TesState | None, Query()] = None,
        tag_key: Annotated[list[str], Query()] = [],  # noqa: B006 (FastAPI copies it)
        tag_value: Annotated[list[str], Query()] = [],  # noqa: B006
        page_size: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE,
        page_token: str = "",
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

    async def get_task(self, id: str, view: ViewParameter = View.MINIMAL) -> Response:
        """Get one task."""
        task = self.store.reader.get(id, view)
        if task is None:
            raise _no_task(id)
        return JSON(task)

    async def cancel_task(self, id: str) -> Response:
        """Cancel a task. One that has ended stays as it is."""
        if not await self.store.cancel(id):
            raise _no_task(id)
        return JSON(TesCancelTaskResponse().to_json())

    async def _body(self, request: Request) -> bytes:
        """The body, or as much of it as shows that it is too large."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._settings.max_document_bytes:
                break
        return bytes(body)

    def _new_task(self, submission: Submission) -> NewTask:
        task = submission.task
        created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
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
    return HTTPException(404, f"there is no task {task_id!r}")
