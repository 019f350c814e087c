"""`make golden`: the SQL of the shipped pipeline as it is rendered, so that a review shows what a change does."""

from collections.abc import Mapping
from pathlib import Path

from worker.pipelines.shipped import SHIPPED

HERE = Path(__file__).parent
FOLDERS = ("sql", "dml", "ddl")


def made() -> Mapping[Path, str]:
    """Every file as it has to be, by its path."""
    statements = {HERE / "sql" / f"{name}.sql": SHIPPED.text(name) for name in SHIPPED.statements}
    statements |= {HERE / "dml" / f"{name}.sql": SHIPPED.text(name) for name in SHIPPED.changes}
    return statements | {HERE / "ddl" / f"{table}.sql": SHIPPED.ddl_of(table) for table in SHIPPED.described}


def lying() -> set[Path]:
    """The files that are there."""
    return {file for folder in FOLDERS for file in (HERE / folder).glob("*.sql")}


def main() -> None:
    """Write them, and remove those of statements that are gone."""
    for path, text in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in lying() - made().keys():
        path.unlink()


if __name__ == "__main__":
    main()
