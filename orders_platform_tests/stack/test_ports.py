"""Ports that someone else has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from orders_platform.settings import Settings
from orders_platform.stack import doctor, ports
from orders_platform.stack.errors import StackError
from orders_platform.stack.kafka import kafka


def test_a_port_in_use_says_by_whom_and_which_setting_changes_it(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.ports.kafka_controller))
        other.listen()
        with pytest.raises(StackError) as raised:
            ports.require_free((kafka(settings),))
    message = str(raised.value)
    assert f"port {settings.ports.kafka_controller} of Apache Kafka is used by pid {os.getpid()} (" in message
    assert "ORDERS_PLATFORM_PORT_KAFKA_CONTROLLER" in message
    assert str(settings.ports.kafka) + " " not in message


def test_one_that_listens_on_all_addresses_counts_too(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", settings.ports.kafka))
        other.listen()
        assert not ports.is_free(settings.ports.kafka)
        assert ports.answers(settings.ports.kafka)
    assert ports.is_free(settings.ports.kafka)
    assert not ports.answers(settings.ports.kafka)


def test_the_port_of_the_dagster_ui_is_looked_at_too(settings: Settings) -> None:
    assert ports.taken_ui_port(settings) is None
    ports.require_free_ui_port(settings)
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.ports.dagster))
        other.listen()
        problem = ports.taken_ui_port(settings)
        wrong = [finding.what for finding in doctor(settings) if not finding.ok]
        with pytest.raises(StackError, match=r"nothing was started.*ORDERS_PLATFORM_PORT_DAGSTER"):
            ports.require_free_ui_port(settings)
    assert problem is not None
    assert f"port {settings.ports.dagster} of the Dagster UI is used by pid {os.getpid()} (" in problem
    assert "set ORDERS_PLATFORM_PORT_DAGSTER" in problem
    assert problem in wrong


def test_the_ui_of_this_home_is_nobody_else(settings: Settings) -> None:
    """A program with the web server's arguments and storage, as `make dev` starts it."""
    home, port = settings.home / "dagster", settings.ports.dagster
    listen = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[2]))); print(flush=True); input()"
    command = [sys.executable, "-c", listen, "dagster_webserver", str(port)]
    for storage, found in ((home, False), (home.with_name("other"), True)):
        with subprocess.Popen(
            command, env={**os.environ, "DAGSTER_HOME": str(storage)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as ui:
            assert ui.stdout is not None
            ui.stdout.readline()
            assert (ports.taken_ui_port(settings) is not None) is found
            ui.communicate(b"\n")


def test_a_port_that_nobody_uses_has_no_user(settings: Settings) -> None:
    assert ports.user_of(settings.ports.kafka) == "a process that this user may not see"
