"""Buckets as an ordinary client sees them, apart from the code that is tested."""

import secrets
from typing import Any, Protocol
from urllib.parse import quote

import boto3
import httpx
from botocore.exceptions import ClientError


def new_bucket_name() -> str:
    return f"bucket-{secrets.token_hex(6)}"


class Bucket(Protocol):
    """What the tests ask of a bucket."""

    url: str  # without a trailing slash
    settings: dict[str, Any]

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes | None: ...

    def keys(self) -> list[str]: ...


class S3Bucket:
    def __init__(self, endpoint: str, name: str, *, key: str = "key-id", secret: str = "s3cr3t-!"):
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name="us-east-1",
        )
        self.name = name
        self.url = f"s3://{name}"
        self.options = {"endpoint_url": endpoint, "key": key, "secret": secret}
        self.settings = {"storage": {"s3://": self.options}}
        self.client.create_bucket(Bucket=name)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes | None:
        try:
            return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())
        except ClientError:
            return None

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def open_uploads(self) -> list[Any]:
        return self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])


class GcsBucket:
    def __init__(self, endpoint: str, name: str):
        self.name = name
        self.url = f"gs://{name}"
        self.settings = {"storage": {"gs://": {"endpoint_url": endpoint, "token": "anon"}}}
        self._api = httpx.Client(base_url=endpoint)
        self._api.post("/storage/v1/b", json={"name": name}).raise_for_status()

    def put(self, key: str, data: bytes) -> None:
        self._api.post(
            f"/upload/storage/v1/b/{self.name}/o",
            params={"uploadType": "media", "name": key},
            content=data,
        ).raise_for_status()

    def get(self, key: str) -> bytes | None:
        answer = self._api.get(
            f"/storage/v1/b/{self.name}/o/{quote(key, safe='')}", params={"alt": "media"}
        )
        return answer.content if answer.is_success else None

    def keys(self) -> list[str]:
        answer = self._api.get(f"/storage/v1/b/{self.name}/o").raise_for_status().json()
        return [item["name"] for item in answer.get("items", ())]
