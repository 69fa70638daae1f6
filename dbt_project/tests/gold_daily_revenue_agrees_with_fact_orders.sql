-- A day of the aggregate holds each of its orders once. One row for each day that differs.
{{ config(meta={'dagster': {'ref': {'name': 'gold_daily_revenue'}}}) }}

with facts as (
    select order_date, count(*) as orders, sum(revenue) as revenue
    from {{ ref('gold_fact_orders') }}
    group by order_date
),

days as (
    select order_date, sum(orders) as orders, sum(revenue) as revenue
    from {{ ref('gold_daily_revenue') }}
    group by order_date
)

select
    coalesce(facts.order_date, days.order_date) as order_date,
    facts.orders as fact_orders,
    days.orders as day_orders
from facts
full outer join days
    on facts.order_date = days.order_date
where
    facts.order_date is null
    or days.order_date is null
    or facts.orders <> days.orders
    or facts.revenue <> days.revenue
