{# The order dates being rebuilt: a table of the run, and so no variable, which would cost a new parse. #}
{% macro order_dates() %}
    {{- api.Relation.create(
        database=target.database, schema='gold_run', identifier='order_dates', type='table'
    ) if target.type == 'duckdb' else 'gold_run.order_dates' -}}
{% endmacro %}
