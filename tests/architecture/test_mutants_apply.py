"""The faults of `make mutants` still fit the product, and their tests still exist."""

import ast
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, ROOT, Mutant


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_of_the_product_and_names_tests_that_exist(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    named = [test.partition("::") for test in mutant.tests]

    assert source != mutant.applied_to(source)
    assert named
    assert all(name.partition("[")[0] in functions_of(ROOT / path) for path, _, name in named)


def test_a_mutant_whose_text_is_gone_or_stands_twice_is_refused() -> None:
    mutant = Mutant(name="one", file="file.py", old="if a:", new="if b:", tests=())

    with pytest.raises(ValueError, match=r"stands 0 times in file\.py"):
        mutant.applied_to("if c:")
    with pytest.raises(ValueError, match=r"stands 2 times in file\.py"):
        mutant.applied_to("if a:\nif a:")


def test_mutants_have_names_of_their_own() -> None:
    assert len(MUTANTS) == len({mutant.name for mutant in MUTANTS})
