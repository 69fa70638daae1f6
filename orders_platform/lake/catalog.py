"""The catalog, and tables that are created with the properties they need from their first commit on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationError,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortField, SortOrder
from pyiceberg.transforms import IdentityTransform
from sqlalchemy.exc import IntegrityError, OperationalError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from orders_platform.errors import PlatformError
from orders_platform.fault_points import SituationPoint, reach
from orders_platform.lake.schema_commits import changed_schema, retried_if_refused
from orders_platform.lake.schemas import holds
from orders_platform.settings import CATALOG, Settings

TABLE_PROPERTIES: Mapping[str, str] = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    # Commits stay as cheap as the first: few manifests, and metadata files that go.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    # Snapshots are expired by the writer; a foreign tool that honours these keeps as many.
    "history.expire.min-snapshots-to-keep": "100",
}
_BUSY_SECONDS = 60  # SQLite's wait for another process's commit


class TableSchemaError(PlatformError):
    """A table's columns contradict what they should be; the message names them."""


@retry(
    # Two processes that open a new SQLite catalog at the same time both try to create its tables.
    retry=retry_if_exception_type((OperationalError, IntegrityError)),
    wait=wait_random_exponential(multiplier=0.1, max=1),
    stop=stop_after_attempt(5),
    reraise=True,
)
def open_catalog(settings: Settings) -> Catalog:
    """The catalog that the settings name. On one machine it is a SQLite file, made when it is missing."""
    properties = dict(settings.catalog_properties)
    uri = properties.get("uri", "")
    if uri.startswith("sqlite"):
        settings.home.mkdir(parents=True, exist_ok=True)
        properties["uri"] = f"{uri}{'&' if '?' in uri else '?'}timeout={_BUSY_SECONDS}"
    return load_catalog(CATALOG, **properties)


def ensure_table(
    catalog: Catalog,
    identifier: str,
    schema: Schema,
    *,
    partition_by: str | None = None,
    sort: Sequence[str] = (),
    bounds: Sequence[str] | None = None,
    prepare: Callable[[Table], None] | None = None,
) -> Table:
    """The table, created or given its new columns where necessary. Safe to call from several processes at once.

    Args:
        identifier: `namespace.table`.
        schema: the columns wanted; field ids in it are ignored.
        partition_by: column of the identity partition, if any.
        sort: columns by which each file is sorted.
        bounds: columns whose exact minimum and maximum per file go into the manifests; every column's, cut to
            16 characters, by default. Fewer make commits cheaper.
        prepare: changes a table that is there before it is given new columns.

    Raises:
        TableSchemaError: if a column of the table has another type than wanted and cannot be widened to it.
    """
    try:
        table = catalog.load_table(identifier)
        if prepare:
            prepare(table)
    except NoSuchTableError:
        table = _create(catalog, identifier, schema, partition_by, sort, bounds)
    return _evolved(table, schema)


def _create(
    catalog: Catalog,
    identifier: str,
    schema: Schema,
    partition_by: str | None,
    sort: Sequence[str],
    bounds: Sequence[str] | None,
) -> Table:
    namespace = identifier.rpartition(".")[0]
    try:
        catalog.create_namespace_if_not_exists(namespace)
    except (NamespaceAlreadyExistsError, IntegrityError):
        # Another process was quicker.
        catalog.load_namespace_properties(namespace)
    spec, order = UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER
    if partition_by:
        source = schema.find_field(partition_by)
        spec = PartitionSpec(PartitionField(source.field_id, 1000, IdentityTransform(), partition_by))
    if sort:
        fields = [SortField(schema.find_field(name).field_id, transform=IdentityTransform()) for name in sort]
        order = SortOrder(*fields)
    metrics = {}
    if bounds is not None:
        exact = dict.fromkeys([*bounds, *sort, *([partition_by] if partition_by else [])], "full")
        metrics = {f"write.metadata.metrics.column.{name}": mode for name, mode in exact.items()}
        metrics["write.metadata.metrics.default"] = "none"
    reach(SituationPoint.TABLE_BEFORE_CREATION)
    try:
        table = catalog.create_table(
            identifier, schema, partition_spec=spec, sort_order=order, properties={**TABLE_PROPERTIES, **metrics}
        )
    except TableAlreadyExistsError:
        return catalog.load_table(identifier)
    reach(SituationPoint.TABLE_AFTER_CREATION)
    return table


@retried_if_refused
def _evolved(table: Table, schema: Schema) -> Table:
    """The table with every column of `schema`; columns that it has beyond those stay."""
    present = {field.name: field.field_type for field in table.schema().fields}
    if all(field.name in present and holds(present[field.name], field.field_type) for field in schema.fields):
        return table
    for field in schema.fields:
        kind = present.get(field.name, field.field_type)
        if field.field_type.is_primitive and not (holds(kind, field.field_type) or holds(field.field_type, kind)):
            raise TableSchemaError(
                f"{'.'.join(table.name())}: column {field.name} is {kind}, of which Iceberg cannot make "
                f"{field.field_type}. Give the new type a column of its own: another name, PostgreSQL's as physicalName"
            )
    try:
        with changed_schema(table) as update:
            update.union_by_name(schema)
    except (TypeError, ValueError, ValidationError) as error:
        raise TableSchemaError(f"{'.'.join(table.name())}: {error}") from error
    return table
