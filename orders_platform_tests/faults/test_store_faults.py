"""An S3 server that answers 503 or late, or loses uploads half-way: nothing is lost, nothing is there twice."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import Fault, History, Step
from orders_platform_tests.faults.player import play
from orders_platform_tests.faults.recording import Recording
from orders_platform_tests.faults.remote_store import BUCKET
from orders_platform_tests.faults.store_proxy import Disturbance, StoreFault, StoreProxy
from orders_platform_tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.timeout(600)
CONTENT = b"content" * 50_000


def _client(s3_server: Mapping[str, str], url: str):
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=s3_server["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=s3_server["AWS_SECRET_ACCESS_KEY"],
        region_name=s3_server["AWS_REGION"],
        config=Config(retries={"total_max_attempts": 1}, read_timeout=2 * PATIENCE_SECONDS),
    )


def test_the_proxy_passes_what_it_is_not_told_to_disturb(s3_server: Mapping[str, str], proxy: StoreProxy) -> None:
    client = _client(s3_server, proxy.url)
    client.put_object(Bucket=BUCKET, Key="whole", Body=CONTENT, IfNoneMatch="*")
    assert client.get_object(Bucket=BUCKET, Key="whole")["Body"].read() == CONTENT
    client.delete_object(Bucket=BUCKET, Key="whole")


def test_the_proxy_answers_503_to_the_requests_that_it_is_told(s3_server: Mapping[str, str], proxy: StoreProxy) -> None:
    client = _client(s3_server, proxy.url)
    proxy.disturb(Disturbance(StoreFault.ANSWER_503, first=2))
    client.put_object(Bucket=BUCKET, Key="busy", Body=CONTENT)
    with pytest.raises(ClientError, match="SlowDown"):
        client.delete_object(Bucket=BUCKET, Key="busy")
    client.delete_object(Bucket=BUCKET, Key="busy")
    assert proxy.heal() == 1


def test_a_late_answer_comes_after_the_request_was_served(s3_server: Mapping[str, str], proxy: StoreProxy) -> None:
    client, at_the_server = (_client(s3_server, url) for url in (proxy.url, s3_server["AWS_ENDPOINT_URL_S3"]))

    def served() -> bool:
        return at_the_server.list_objects_v2(Bucket=BUCKET, Prefix="late")["KeyCount"] == 1

    proxy.disturb(Disturbance(StoreFault.LATE_ANSWER, seconds=3600.0))
    with ThreadPoolExecutor() as pool:
        put = pool.submit(client.put_object, Bucket=BUCKET, Key="late", Body=b"late")
        try:
            assert eventually(served)
            assert not put.done()
        finally:
            proxy.stop_listening()
        with pytest.raises((ConnectionError, HTTPClientError)):
            put.result()
    assert at_the_server.get_object(Bucket=BUCKET, Key="late")["Body"].read() == b"late"
    at_the_server.delete_object(Bucket=BUCKET, Key="late")


def test_an_upload_that_is_cut_leaves_no_object(s3_server: Mapping[str, str], proxy: StoreProxy) -> None:
    client = _client(s3_server, proxy.url)
    proxy.disturb(Disturbance(StoreFault.UPLOAD_CUT))
    with pytest.raises((ConnectionError, HTTPClientError)):
        client.put_object(Bucket=BUCKET, Key="cut", Body=CONTENT)
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket=BUCKET, Key="cut")
    assert proxy.heal() == 1


def test_a_history_on_s3_ends_in_the_tables_of_postgresql(
    recording: Recording, live_stack: Settings, tmp_path: Path, s3_server: Mapping[str, str]
) -> None:
    faults = (Fault.STORE_503, Fault.STORE_SLOW, Fault.UPLOAD_CUT)
    steps = tuple(Step(fault, chance=number) for number, fault in enumerate(faults))
    played = History(10_001, (0.4, 0.7), steps)
    outcome = play(played, recording, live_stack, load_contracts(), tmp_path, s3_server)
    assert outcome.differences == [], f"{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
    untouched = [end for end in outcome.ends if "(0 requests" in end]
    assert untouched == [], "a fault of the store has met no request"
