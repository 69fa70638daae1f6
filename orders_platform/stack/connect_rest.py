"""Kafka Connect's REST interface, the few calls of it that the stack needs.

https://kafka.apache.org/43/kafka-connect/user-guide/#rest-api
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError
from orders_platform.stack.part import UnhealthyError

HEALTH_SECONDS = 10
ANSWER_SECONDS = 90
"""Connect itself gives up a request after so long."""
REBALANCE_SECONDS = 30
CONFLICT, NOT_FOUND = 409, 404


class ConnectRefusedError(StackError):
    """Connect answered a request with an error of its own."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"Kafka Connect refused ({status}): {message}")


@dataclass(frozen=True)
class ConnectorStatus:
    """What Connect says of a connector: its state and those of its tasks, with the trace of the first failure."""

    state: str
    tasks: tuple[str, ...]
    trace: str

    @property
    def running(self) -> bool:
        return self.state == "RUNNING" and bool(self.tasks) and all(task == "RUNNING" for task in self.tasks)

    @property
    def failed(self) -> bool:
        return self.state == "FAILED" or "FAILED" in self.tasks


class ConnectRest:
    """The worker of this stack. Every call raises `UnhealthyError` if it cannot be reached."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"http://127.0.0.1:{settings.ports.connect}"

    def worker(self) -> dict[str, Any]:
        """Its version and the id of its Kafka cluster, once it is able to work (KIP-1017)."""
        try:
            self._once("GET", "/health", None, HEALTH_SECONDS)
            return dict(self._once("GET", "/", None, HEALTH_SECONDS))
        except ConnectRefusedError as error:
            raise UnhealthyError(f"Kafka Connect at {self._url} is not ready: {error}") from error

    def config(self, connector: str) -> dict[str, str] | None:
        """A connector's configuration; None if there is no such connector."""
        answer: dict[str, str] | None = self._unless_missing(f"/connectors/{quote(connector)}/config")
        return answer

    def status(self, connector: str) -> ConnectorStatus | None:
        """How it is doing; None if there is no such connector (yet: after a change it takes a moment)."""
        answer = self._unless_missing(f"/connectors/{quote(connector)}/status")
        if answer is None:
            return None
        tasks = answer["tasks"]
        traces = [node["trace"] for node in (answer["connector"], *tasks) if node.get("trace")]
        return ConnectorStatus(
            answer["connector"]["state"], tuple(task["state"] for task in tasks), traces[0] if traces else ""
        )

    def offsets(self, connector: str) -> list[dict[str, Any]]:
        """The source offsets that it has committed; empty if it has none, or does not exist."""
        answer = self._unless_missing(f"/connectors/{quote(connector)}/offsets")
        return [entry for entry in answer["offsets"] if entry.get("offset")] if answer else []

    def put_config(self, connector: str, config: Mapping[str, str]) -> None:
        """Makes the connector, or changes it. Raises `ConnectRefusedError` when the configuration is invalid."""
        self._call("PUT", f"/connectors/{quote(connector)}/config", config)

    def create_stopped(self, connector: str, config: Mapping[str, str]) -> None:
        """Makes the connector without starting it: its offsets can be read then."""
        self._call("POST", "/connectors", {"name": connector, "config": config, "initial_state": "STOPPED"})

    def stop(self, connector: str) -> None:
        """Ends its tasks and keeps its configuration and offsets."""
        self._call("PUT", f"/connectors/{quote(connector)}/stop")

    def resume(self, connector: str) -> None:
        """Starts a stopped connector."""
        self._call("PUT", f"/connectors/{quote(connector)}/resume")

    def restart(self, connector: str) -> None:
        """Starts it and its failed tasks again."""
        self._call("POST", f"/connectors/{quote(connector)}/restart?includeTasks=true&onlyFailed=true")

    def delete_offsets(self, connector: str) -> None:
        """Forgets what it has read. The connector must be stopped."""
        self._call("DELETE", f"/connectors/{quote(connector)}/offsets")

    def _unless_missing(self, path: str) -> Any:
        try:
            return self._call("GET", path)
        except ConnectRefusedError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request; while the worker rebalances it answers 409, which passes."""
        deadline = time.monotonic() + REBALANCE_SECONDS
        while True:
            try:
                return self._once(method, path, body, ANSWER_SECONDS)
            except ConnectRefusedError as error:
                if error.status != CONFLICT or time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: int) -> Any:
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:
                text = response.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            try:
                message = json.loads(text)["message"]
            except (ValueError, KeyError, TypeError):
                message = text
            raise ConnectRefusedError(error.code, message) from error
        except OSError as error:  # urllib's own errors are of this class, and so are time-outs
            raise UnhealthyError(f"Kafka Connect does not answer at {self._url}: {error}") from error
