{# Fails for each row that lies outside the order dates being rebuilt. #}
{% test rows_of_the_rebuilt_dates(model) %}
select model.order_date
from {{ model }} as model
left join {{ order_dates() }} as dates
    on model.order_date = dates.order_date
where dates.order_date is null
{% endtest %}


{# Fails for each combination of values that has more than one row. #}
{% test one_row_each(model, columns) %}
select {{ columns | join(', ') }}
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}
