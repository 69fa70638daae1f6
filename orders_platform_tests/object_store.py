"""A real S3 server for tests: SeaweedFS in one process, on 127.0.0.1, in a temporary folder, without telemetry."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

START_SECONDS = 180
IDENTITY = {"accessKey": "tests", "secretKey": "tests-secret"}


class ObjectStoreError(Exception):
    """The server did not start; the message has the end of its log."""


@contextmanager
def object_store(ports: list[int], bucket: str, volumes: int = 20) -> Iterator[dict[str, str]]:
    """Runs a server with an empty bucket; yields the AWS SDK's environment variables. Takes eight free ports.

    `volumes`: of 64 MB each, how many there may be; those without content take no room.
    """
    folder = Path(tempfile.mkdtemp(prefix="orders-platform-s3-"))
    config = folder / "s3.json"
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    config.write_text(json.dumps({"identities": [{"name": "tests", "credentials": [IDENTITY], "actions": actions}]}))
    log = folder / "weed.log"
    with log.open("wb") as output:
        server = subprocess.Popen(_command(folder, config, ports, volumes), stdout=output, stderr=output, cwd=folder)
    try:
        variables = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports[0]}",
            "AWS_ACCESS_KEY_ID": IDENTITY["accessKey"],
            "AWS_SECRET_ACCESS_KEY": IDENTITY["secretKey"],
            "AWS_REGION": "us-east-1",
        }
        _make_bucket(server, variables, bucket, log)
        yield variables
    finally:
        server.kill()  # it takes its time to end, and what it holds is thrown away
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _command(folder: Path, config: Path, ports: list[int], volumes: int) -> list[str]:
    s3, s3_grpc, filer, filer_grpc, master, master_grpc, volume, volume_grpc = ports
    return [
        str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-master.telemetry=false", f"-master.port={master}", f"-master.port.grpc={master_grpc}",
        "-master.volumeSizeLimitMB=64", f"-volume.max={volumes}",
        f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}",
        "-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}",
        "-s3", f"-s3.config={config}", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip


def _make_bucket(server: subprocess.Popen[bytes], variables: dict[str, str], bucket: str, log: Path) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_REGION"],
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=30),
    )
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=bucket)  # an earlier round may have made it and got no further
            client.put_object(Bucket=bucket, Key="ready", Body=b"")
            client.delete_object(Bucket=bucket, Key="ready")
        except (BotoCoreError, ClientError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise ObjectStoreError(f"SeaweedFS is not ready after {START_SECONDS} s: {error}\n{tail}") from error
            time.sleep(0.3)
        else:
            return
