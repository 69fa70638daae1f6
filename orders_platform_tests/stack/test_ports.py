"""Ports that someone else has."""

from __future__ import annotations

import os
import socket

import pytest

from orders_platform.settings import Settings
from orders_platform.stack import ports
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


def test_a_port_that_nobody_uses_has_no_user(settings: Settings) -> None:
    assert ports.user_of(settings.ports.kafka) == "a process that this user may not see"
