-- What the dashboards read. One partition a day: a day is replaced as a whole, so that readers see it as it was or as it is.
-- Date32 reaches from 1900 to 2299. `_gold_seq` is the sequence number of the gold commit that wrote the day last.
CREATE TABLE IF NOT EXISTS daily_revenue
(
    order_date       Date32 COMMENT 'day on which the orders were placed, in the business time zone',
    region           LowCardinality(String) COMMENT 'sales region in which the customers live now',
    currency         LowCardinality(String) COMMENT 'ISO 4217 code of the amounts',
    orders           Int64 COMMENT 'number of orders, cancelled ones included',
    cancelled_orders Int64 COMMENT 'number of orders that were cancelled',
    items            Int64 COMMENT 'pieces in all orders',
    revenue          Decimal(18, 2) COMMENT 'net of refunds and cancellations',
    refunded         Decimal(18, 2) COMMENT 'paid back so far',
    _gold_seq        Int64 COMMENT 'sequence number of the gold commit that wrote the day last'
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(order_date)
ORDER BY (order_date, region, currency)
