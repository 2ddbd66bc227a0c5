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

    def put(self, key: str, data: bytes, **parameters: str) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data, **parameters)

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


class AzureContainer:
    # The account that every emulator of Azure has.
    _ACCOUNT = "devstoreaccount1"
    _KEY = (
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    )

    def __init__(self, endpoint: str, name: str):
        from azure.storage.blob import BlobServiceClient

        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={self._ACCOUNT};AccountKey={self._KEY};"
            f"BlobEndpoint={endpoint}/{self._ACCOUNT};"
        )
        self.name = name
        self.url = f"abfs://{name}"
        self.settings = {
            "schemes": ("file", "abfs"),
            "storage": {"abfs://": {"connection_string": connection}},
        }
        service = BlobServiceClient.from_connection_string(connection)
        self._container = service.create_container(name)

    def put(self, key: str, data: bytes) -> None:
        self._container.upload_blob(key, data, overwrite=True)

    def get(self, key: str) -> bytes | None:
        blob = self._container.get_blob_client(key)
        return bytes(blob.download_blob().readall()) if blob.exists() else None

    def keys(self) -> list[str]:
        return [blob.name for blob in self._container.list_blobs()]
