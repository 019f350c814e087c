"""The Terraform of `ops/terraform` as data, and its grants as Terraform itself works them out."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from tests.support.manifests import OPS

FOLDER = OPS / "terraform"
FILES = sorted(FOLDER.glob("*.tf"))
_OPTIONS = hcl2.SerializationOptions(strip_string_quotes=True, explicit_blocks=False, with_comments=False)

Grant = tuple[str, str, str, str]


def text() -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in FILES)


@cache
def _parsed() -> Sequence[Mapping[str, Any]]:
    return [hcl2.loads(file.read_text(encoding="utf-8"), serialization_options=_OPTIONS) for file in FILES]


def blocks(kind: str) -> Iterator[tuple[str, Any]]:
    """The blocks of a kind, by their labels: `type.name` of a resource, the name of a variable."""
    for file in _parsed():
        for block in file.get(kind, ()):
            yield from _labelled(block, 2 if kind in {"resource", "data"} else 1)


def _labelled(block: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    for label, body in block.items():
        if depth == 1:
            yield label, body
        else:
            yield from ((f"{label}.{name}", inner) for name, inner in _labelled(body, depth - 1))


def resources(kind: str) -> dict[str, Any]:
    """Bodies of the resources of a type, by name."""
    return {label.partition(".")[2]: body for label, body in blocks("resource") if label.partition(".")[0] == kind}


def resource(kind: str, name: str) -> Any:
    return resources(kind)[name]


def local(name: str) -> Any:
    (value,) = [block[name] for file in _parsed() for block in file.get("locals", ()) if name in block]
    return value


def default(variable: str) -> Any:
    return dict(blocks("variable"))[variable]["default"]


def role_table() -> Mapping[str, Any]:
    return yaml.safe_load((FOLDER / "roles.yaml").read_text(encoding="utf-8"))


def rows() -> list[Grant]:
    """The table's rows as (principal, role, kind of resource, name), `-` for the project's."""
    return [
        (row["principal"], row["role"], row["kind"], name)
        for row in role_table()["roles"]
        for name in row.get("names", ["-"])
    ]


def terraform(*arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("terraform")
    if binary is None:
        pytest.skip("terraform is not installed; its own check of the files is left out")
    return subprocess.run(
        [binary, f"-chdir={folder}", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=os.environ | {"CHECKPOINT_DISABLE": "1"},
    )


def evaluated_grants(folder: Path) -> list[Grant]:
    """What `local.grants` comes to, with accounts that no cloud has made: the provider is Terraform's built-in one."""
    for name in ("roles.yaml", "tables.json", "views.json"):
        shutil.copy(FOLDER / name, folder / name)
    main = (FOLDER / "main.tf").read_text(encoding="utf-8")
    expressions = main[main.index("locals {") : main.index('data "google_project"')]
    for pattern, stand_in in (
        (r'google_service_account\.account\["(\w+)"\]\.email', r'terraform_data.account["\1"].id'),
        (r"google_project_iam_custom_role\.custom", "terraform_data.custom"),
        (r"\$\{data\.google_project\.this\.number\}", "1"),
        (r"var\.push_endpoint", '"https://push"'),
        (r"var\.\w+", '["serviceAccount:somebody"]'),
    ):
        expressions = re.sub(pattern, stand_in, expressions)
    stand_ins = """
resource "terraform_data" "account" { for_each = local.accounts }
resource "terraform_data" "custom" { for_each = local.table.custom_roles }
resource "terraform_data" "grant" { for_each = local.grants }
"""
    (folder / "main.tf").write_text(expressions + stand_ins, encoding="utf-8")
    for arguments in (("init",), ("plan", "-out=plan")):
        done = terraform(*arguments, "-no-color", "-input=false", folder=folder)
        assert done.returncode == 0, done.stderr
    shown = json.loads(terraform("show", "-json", "plan", folder=folder).stdout)
    keys = [one["index"] for one in shown["resource_changes"] if one["name"] == "grant"]
    return [_grant(key) for key in keys]


def _grant(key: str) -> Grant:
    principal, role, kind, name = key.split(" ")
    return principal.removesuffix("[0]"), role, kind, name
