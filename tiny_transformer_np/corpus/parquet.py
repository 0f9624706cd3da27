"""Documents from Parquet files, through pyarrow, which reads them page by page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kernels.system.printable import brief
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.streams import Stream

if TYPE_CHECKING:
    from tiny_transformer_np.corpus.sources import Source
    from tiny_transformer_np.corpus.work_units import Part

_BATCH = 1 << 20  # bytes of text, about, that are decoded at a time
_ROWS = 256  # that are decoded at a time at most: a few may be much longer than the others
_BUFFER = 1 << 20  # bytes read at a time


def row_group_sizes(source: "Source") -> list[int]:
    """The bytes of each row group, uncompressed."""
    with _opened(source) as file:
        metadata = file.metadata
        return [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]


def read_parquet(part: "Part", field: str) -> Iterator[str | None]:
    """The values of column `field` in the part's row groups; None for null. ConfigError if it has no strings."""
    source = part.source
    with _opened(source) as file:
        _require_strings(source, file.schema_arrow, field)
        groups = range(part.start, file.num_row_groups if part.end is None else part.end)
        for group in groups:
            found = file.metadata.row_group(group)
            rows = max(1, found.num_rows * _BATCH // max(found.total_byte_size, 1))
            batches = file.iter_batches(min(rows, _ROWS), row_groups=[group], columns=[field], use_threads=False)
            for batch in batches:
                yield from batch.column(0).to_pylist()


@contextmanager
def _opened(source: "Source") -> Iterator[Any]:
    """The file as pyarrow's ParquetFile. ConfigError for whatever pyarrow raises about its contents."""
    import pyarrow
    from pyarrow import parquet

    with Stream(source) as stream:
        try:
            yield parquet.ParquetFile(stream.file, buffer_size=_BUFFER, pre_buffer=False)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(
                f"data file {source.name} is damaged: {brief(what, 200)}; copy or download it again"
            ) from None
        stream.require_unchanged()


def _require_strings(source: "Source", schema: Any, field: str) -> None:
    from pyarrow import types

    names = list(schema.names)
    if names.count(field) != 1:
        strings = [name for name in names if _is_strings(types, schema.field(names.index(name)).type)]
        advice = f"; choose one: --field {strings[0]}" if strings else ""
        there = ", ".join(brief(name) for name in names[:10]) or "none"
        raise ConfigError(f"data file {source.name} has no column {field!r}, only {there}{advice}")
    type_ = schema.field(field).type
    if not _is_strings(types, type_):
        raise ConfigError(
            f"column {field!r} of data file {source.name} is of {type_}; expected strings; other columns: --field NAME"
        )


def _is_strings(types: Any, type_: Any) -> bool:
    if types.is_dictionary(type_):
        type_ = type_.value_type
    is_view = getattr(types, "is_string_view", lambda type_: False)
    return types.is_string(type_) or types.is_large_string(type_) or is_view(type_) or types.is_null(type_)
