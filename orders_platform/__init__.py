"""A shop's PostgreSQL changes on its dashboards, exactly once: a Dagster code location."""
