-- One row an order, of the order dates being rebuilt. Written in the SQL that DuckDB and Spark both run; a date is a day
-- of the session's time zone, which is the business's.
with placed as (

    select
        orders.*,
        cast(orders.created_at as date) as order_date
    from {{ source('silver', 'orders') }} as orders
    where not orders._deleted

),

rebuilt as (

    select placed.*
    from placed
    inner join {{ order_dates() }} as dates
        on placed.order_date = dates.order_date

),

baskets as (

    select
        line_items.order_id,
        sum(line_items.quantity) as items,
        count(*) as lines
    from {{ source('silver', 'line_items') }} as line_items
    inner join rebuilt
        on line_items.order_id = rebuilt.order_id
    where not line_items._deleted
    group by line_items.order_id

)

select
    rebuilt.order_date,
    rebuilt.order_id,
    rebuilt.customer_id as customer_key,
    coalesce(customers.region, 'UNKNOWN') as region_key,
    rebuilt.status,
    rebuilt.currency,
    cast(coalesce(baskets.items, 0) as bigint) as items,
    cast(coalesce(baskets.lines, 0) as bigint) as lines,
    rebuilt.total,
    rebuilt.refunded,
    cast(
        case when rebuilt.status = 'cancelled' then 0 else rebuilt.total - rebuilt.refunded end
        as decimal(14, 2)
    ) as revenue,
    rebuilt.created_at,
    rebuilt.updated_at
from rebuilt
left join baskets
    on rebuilt.order_id = baskets.order_id
left join {{ source('silver', 'customers') }} as customers
    on rebuilt.customer_id = customers.customer_id and not customers._deleted
