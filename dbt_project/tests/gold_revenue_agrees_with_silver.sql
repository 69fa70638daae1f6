-- The dashboards' figures beside silver's own, worked out on another way: from the order rows alone, per currency, and
-- from the line items alone for the pieces. One row for each day and currency that differs.
{{ config(meta={'dagster': {'ref': {'name': 'gold_daily_revenue'}}}) }}

with pieces as (

    select
        line_items.order_id,
        sum(line_items.quantity) as items
    from {{ source('silver', 'line_items') }} as line_items
    where not line_items._deleted
    group by line_items.order_id

),

expected as (

    select
        cast(orders.created_at as date) as order_date,
        orders.currency,
        count(*) as orders,
        sum(coalesce(pieces.items, 0)) as items,
        sum(orders.total) - sum(orders.refunded)
        - sum(case when orders.status = 'cancelled' then orders.total - orders.refunded else 0 end) as revenue,
        sum(orders.refunded) as refunded
    from {{ source('silver', 'orders') }} as orders
    left join pieces
        on orders.order_id = pieces.order_id
    where
        not orders._deleted
        and cast(orders.created_at as date) in (select dates.order_date from {{ order_dates() }} as dates)
    group by cast(orders.created_at as date), orders.currency

),

shown as (

    select
        order_date,
        currency,
        sum(orders) as orders,
        sum(items) as items,
        sum(revenue) as revenue,
        sum(refunded) as refunded
    from {{ ref('gold_daily_revenue') }}
    group by order_date, currency

)

select
    coalesce(expected.order_date, shown.order_date) as order_date,
    coalesce(expected.currency, shown.currency) as currency,
    expected.revenue as silver_revenue,
    shown.revenue as gold_revenue,
    expected.orders as silver_orders,
    shown.orders as gold_orders
from expected
full outer join shown
    on expected.order_date = shown.order_date and expected.currency = shown.currency
where
    expected.order_date is null
    or shown.order_date is null
    or expected.orders <> shown.orders
    or expected.items <> shown.items
    or expected.revenue <> shown.revenue
    or expected.refunded <> shown.refunded
