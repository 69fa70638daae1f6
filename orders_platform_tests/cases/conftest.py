"""The parts that the tests of single layers start, for cases that cross layers."""

from orders_platform_tests.ingest.conftest import catalog, con, orders, shop_topic, topic

__all__ = ["catalog", "con", "orders", "shop_topic", "topic"]
