"""The parts that the tests of single layers start, for cases that cross layers."""

from orders_platform_tests.ingest.conftest import catalog, con, orders, shop_topic, topic
from orders_platform_tests.serving.conftest import dashboards, gold

__all__ = ["catalog", "con", "dashboards", "gold", "orders", "shop_topic", "topic"]
