{#
  Replaces the order dates being rebuilt in the model's Iceberg table, on the branch of this run. Readers follow main and
  see nothing of it until the branch has been audited and published.
#}
{% materialization iceberg, adapter='duckdb' %}

  {%- set target_relation = this.incorporate(type='view') -%}
  {%- set rows = make_intermediate_relation(this.incorporate(type='table')) -%}

  {{ run_hooks(pre_hooks) }}

  {{ drop_relation_if_exists(load_cached_relation(rows)) }}
  {% call statement('main') -%}
    {{ create_table_as(False, rows, compiled_code) }}
  {%- endcall %}
  {{ adapter.commit() }}

  {# The plugin writes the files, commits them to the branch, and makes the model a view on what the branch then holds. #}
  {% do store_relation('iceberg', rows, this | string, 'parquet', config) %}

  {% call statement('drop_rows', auto_begin=False) -%}
    drop table {{ rows }}
  {%- endcall %}

  {{ run_hooks(post_hooks) }}

  {{ return({'relations': [target_relation]}) }}

{% endmaterialization %}


{% materialization iceberg, adapter='spark' %}

  {%- set table = config.require('meta')['iceberg_table'] -%}
  {%- set partition = config.require('partition_by') -%}
  {%- set target_relation = this.incorporate(type='table') -%}

  {{ run_hooks(pre_hooks) }}

  {% call statement('create') -%}
    create table if not exists {{ table }} using iceberg partitioned by ({{ partition }})
    tblproperties ('write.wap.enabled' = 'true')
    as select * from ({{ compiled_code }}) where false
  {%- endcall %}
  {% call statement('delete') -%}
    delete from {{ table }} where {{ partition }} in (select order_date from {{ order_dates() }})
  {%- endcall %}
  {% call statement('main') -%}
    insert into {{ table }} {{ compiled_code }}
  {%- endcall %}

  {{ run_hooks(post_hooks) }}

  {{ return({'relations': [target_relation]}) }}

{% endmaterialization %}
