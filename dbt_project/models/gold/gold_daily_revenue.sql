-- What the dashboards show: one row a day, region and currency, of the order dates being rebuilt.
select
    facts.order_date,
    facts.region_key as region,
    facts.currency,
    count(*) as orders,
    cast(sum(case when facts.status = 'cancelled' then 1 else 0 end) as bigint) as cancelled_orders,
    cast(sum(facts.items) as bigint) as items,
    cast(sum(facts.revenue) as decimal(18, 2)) as revenue,
    cast(sum(facts.refunded) as decimal(18, 2)) as refunded
from {{ ref('gold_fact_orders') }} as facts
inner join {{ order_dates() }} as dates
    on facts.order_date = dates.order_date
group by facts.order_date, facts.region_key, facts.currency
