"""Where staged files lie: a folder or S3. A file is put once, whole, under a name that is free, and never changed."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import pyarrow as pa

from orders_platform.fault_points import FaultPoint, SituationPoint, reach
from orders_platform.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SET_ASIDE = ".set-aside"


class Storage(Protocol):
    """Files by name, relative to the place of staging; names use `/`."""

    def names(self, folder: str) -> list[str]:
        """Names (without the folder) of the files right in a folder, sorted; none for a folder that does not exist."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders right in a folder, sorted."""

    def put(self, name: str, content: pa.Buffer) -> bool:
        """Puts a file; false, and nothing changed, when there is one of that name already."""

    def read(self, name: str) -> pa.Buffer:
        """The content. Raises `FileNotFoundError`."""

    def set_aside(self, name: str) -> str:
        """Renames a file that cannot be used, so that its name is free; returns the new name."""


def storage(settings: Settings, client: S3Client | None = None) -> Storage:
    """The place that the settings name; `client` is boto3's for S3, if it is not to be made from the settings."""
    if settings.staging.startswith("s3://"):
        return S3Storage(settings, client)
    return FolderStorage(Path(settings.staging))


class FolderStorage:
    """A local folder: a file is written and synced under a temporary name, then linked to its own."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, folder: str) -> list[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return sorted(e.name for e in entries if not e.name.endswith((".tmp", SET_ASIDE)) and e.is_file())
        except FileNotFoundError:
            return []

    def folders(self, folder: str) -> list[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return []

    def put(self, name: str, content: pa.Buffer) -> bool:
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
        before, after = _points(name)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            reach(before)
            # A link, unlike a rename, does not replace: of two writers one wins, and both files say the same.
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
        reach(after)
        return True

    def read(self, name: str) -> pa.Buffer:
        with pa.memory_map(str(self._root / name)) as file:
            return file.read_buffer()

    def set_aside(self, name: str) -> str:
        other = f"{name}.{uuid.uuid4().hex}{SET_ASIDE}"
        reach(SituationPoint.STAGED_FILE_BEFORE_SET_ASIDE)
        (self._root / name).rename(self._root / other)
        reach(SituationPoint.STAGED_FILE_AFTER_SET_ASIDE)
        return other


class S3Storage:
    """A bucket: one PUT on condition that no object has the name, which is atomic and as durable as the store."""

    def __init__(self, settings: Settings, client: S3Client | None = None) -> None:
        url = urlsplit(settings.staging)
        self._bucket, self._prefix = url.netloc, url.path.strip("/")
        self._client = client or _client(settings)

    def names(self, folder: str) -> list[str]:
        prefix = self._key(folder) + "/"
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        )
        keys = (item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", ()))
        return sorted(key for key in keys if not key.endswith(SET_ASIDE))

    def folders(self, folder: str) -> list[str]:
        prefix = self._key(folder) + "/"
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        )
        found = (item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ()))
        return sorted(name.removeprefix(prefix).rstrip("/") for name in found)

    def put(self, name: str, content: pa.Buffer) -> bool:
        from botocore.exceptions import ClientError

        before, after = _points(name)
        reach(before)
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=self._key(name), Body=content.to_pybytes(), IfNoneMatch="*"
            )
        except ClientError as error:
            # 412: there is one; also the answer to a retry of a PUT that had landed. 409: another one is being put.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
                return False
            raise
        reach(after)
        return True

    def read(self, name: str) -> pa.Buffer:
        from botocore.exceptions import ClientError

        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise FileNotFoundError(f"s3://{self._bucket}/{self._key(name)}") from error
            raise
        return pa.py_buffer(answer["Body"].read())

    def set_aside(self, name: str) -> str:
        other = f"{name}.{uuid.uuid4().hex}{SET_ASIDE}"
        source = {"Bucket": self._bucket, "Key": self._key(name)}
        reach(SituationPoint.STAGED_FILE_BEFORE_SET_ASIDE)
        self._client.copy_object(Bucket=self._bucket, Key=self._key(other), CopySource=source)  # type: ignore[arg-type]
        reach(SituationPoint.STAGED_FILE_COPIED_ASIDE)
        self._client.delete_object(Bucket=self._bucket, Key=self._key(name))
        reach(SituationPoint.STAGED_FILE_AFTER_SET_ASIDE)
        return other

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


def _points(name: str) -> tuple[FaultPoint, FaultPoint]:
    """What is put is a staged file, or what is remembered of a topic."""
    if name.endswith(".parquet"):
        return FaultPoint.STAGING_BEFORE_NAME, FaultPoint.STAGING_AFTER_NAME
    return FaultPoint.MEMORY_BEFORE_NAME, FaultPoint.MEMORY_AFTER_NAME


def _client(settings: Settings) -> S3Client:
    import boto3  # costs 0.2 s, and most installations on one machine need none of it

    # Keys come from the environment, as everywhere in the AWS SDK.
    properties = settings.s3
    return boto3.client(
        "s3", endpoint_url=properties.get("s3.endpoint"), region_name=properties.get("s3.region", "us-east-1")
    )


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
