"""The page that shows an OpenAPI document to people: plain HTML, no script, nothing fetched."""

from collections.abc import Iterator
from html import escape
from typing import Any

from raytes.models import JsonObject

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { border-top: 1px solid #8886; padding-top: 1rem } h2 b { color: #0b6e4f }
code { font-size: 0.9em } td, th { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0 0 }
@media (prefers-color-scheme: dark) {
  body { background: #16181d; color: #e6e6e6 } a { color: #8ab4f8 } h2 b { color: #5ad1a5 }
}
"""


def docs_page(document: JsonObject) -> str:
    """The page of an OpenAPI document: its operations, then its schemas."""
    info, base = document["info"], document["servers"][0]["url"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{_text(info['description'])} "
        f"<a href='{escape(base)}/openapi.json'>The OpenAPI document</a></p>",
        *(
            part
            for path, item in document["paths"].items()
            for method, operation in item.items()
            for part in _operation(method, base + path, operation)
        ),
        *(
            part
            for name, schema in document["components"]["schemas"].items()
            for part in _schema(name, schema)
        ),
    ]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: JsonObject) -> Iterator[str]:
    yield f"<h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>"
    yield f"<p>{_text(operation.get('description'))}</p>"
    rows = [
        (parameter["name"], _type(parameter["schema"]), parameter.get("description"))
        for parameter in operation.get("parameters", ())
    ]
    if body := operation.get("requestBody"):
        rows.append(("the body", _content(body), "The document, as JSON."))
    yield _table("Parameter", rows)
    yield _table(
        "Answer",
        [
            (status, _content(response), response["description"])
            for status, response in operation["responses"].items()
        ],
    )


def _schema(name: str, schema: JsonObject) -> Iterator[str]:
    yield f"<h2 id='{escape(name)}'>{escape(name)}</h2>"
    yield f"<p>{_text(schema.get('description'))}</p>"
    required = schema.get("required", ())
    rows = [
        (
            field,
            _type(definition) + (", required" if field in required else ""),
            definition.get("description"),
        )
        for field, definition in schema.get("properties", {}).items()
    ]
    yield _table("Field", rows) if rows else f"<p>{_type(schema)}</p>"


def _content(holder: JsonObject) -> str:
    return " or ".join(_type(media["schema"]) for media in holder["content"].values())


def _type(schema: JsonObject) -> str:
    """What a value is, as HTML; a schema with a name is a link to it."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if values := schema.get("enum"):
        return " | ".join(f"<code>{escape(value)}</code>" for value in values)
    if schema.get("type") == "array":
        return f"array of {_type(schema['items'])}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {_type(values)}"
    return escape(str(schema.get("type", "any")))


def _table(head: str, rows: list[tuple[str, str, Any]]) -> str:
    if not rows:
        return ""
    lines = "\n".join(
        f"<tr><td><code>{escape(name)}</code><td>{kind}<td>{_text(description)}"
        for name, kind, description in rows
    )
    return f"<table><tr><th>{head}<th>Type<th>Meaning\n{lines}</table>"


def _text(markdown: str | None) -> str:
    """A description as HTML: what stands between backquotes is code."""
    pieces = escape(markdown or "").split("`")
    return "".join(
        f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces)
    )
