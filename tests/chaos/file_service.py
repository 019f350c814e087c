"""The DuckDB file that the workers of a chaos run share: `python -m tests.chaos.file_service FOLDER PORT`.

It fills the file and reads it as processors, Phase 5 and the judge would: as one more process that opens the file for a
call and gives it back. While this process stands still it may keep the file, and the workers wait. No port is used.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.warehouse_service import Tables, serve
from worker.adapters.duckdb.file import SharedFile
from worker.adapters.duckdb.parquet import replace_table

FILE = "warehouse.duckdb"
# Longer than anything that a worker does with the file, frozen or not.
WAIT_S = 60.0


class FileTables:
    """The file, opened for each call as the product opens it."""

    def __init__(self, path: Path) -> None:
        self._file = SharedFile(str(path), {"threads": 2, "preserve_insertion_order": False}, wait_s=WAIT_S)

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        with self._file.cursor() as cursor:
            yield cursor

    def load(self, directory: Path) -> None:
        with self.cursor() as cursor:
            for path in sorted(directory.glob("*.*.parquet")):
                replace_table(cursor, path.name.removesuffix(".parquet"), path)

    def close(self) -> None:
        self._file.close(WAIT_S)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    serve(Tables(folder, FileTables(folder / FILE)), str(folder / FILE))
