"""Docstrings name their nouns and begin with their action."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("statemachine", "schemas", "worker", "ops")
# Pro-forms per 100 words of docstrings.
LIMIT = 4.0
PRO_FORMS = 19
_BANNED = re.compile(r"(?:Give|Say|Tell|Let)s?\b")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def pro_forms() -> frozenset[str]:
    """The list of CONTRIBUTING.md."""
    [line] = re.findall(r"^> (it [a-z ]+)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    return frozenset(line.split())


def docstrings(source: str) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node, text


def documented(package: str) -> Iterator[tuple[str, ast.AST, str]]:
    for file in sorted((ROOT / package).rglob("*.py")):
        for node, text in docstrings(file.read_text(encoding="utf-8")):
            yield file.relative_to(ROOT).as_posix(), node, text


def density(texts: Iterator[str]) -> float:
    words = re.findall(r"[a-z]+", " ".join(texts).lower())
    counted = pro_forms()
    return 100 * sum(word in counted for word in words) / len(words)


def banned(node: ast.AST, text: str) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _BANNED.match(text) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_hold_few_pro_forms(package: str) -> None:
    found = density(text for _file, _node, text in documented(package))

    assert found <= LIMIT, f"{package}: {found:.2f} pro-forms per 100 words; name the nouns"


@pytest.mark.parametrize("package", PACKAGES)
def test_function_docstrings_begin_with_their_action(package: str) -> None:
    found = [f"{file}: {text.splitlines()[0]}" for file, node, text in documented(package) if banned(node, text)]

    assert not found, "\n".join(found)


def test_the_list_of_the_page_is_whole() -> None:
    assert len(pro_forms()) == PRO_FORMS


def test_the_glossary_is_sorted_and_names_each_term_once() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = [term.lower() for term in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)[1:]]

    assert terms == sorted(set(terms))


def test_a_pro_form_and_a_banned_beginning_are_found() -> None:
    [_module, (node, text)] = docstrings('"""Rows."""\ndef f():\n    """Give it to whoever asks."""\n')

    assert density(iter([text])) == 40
    assert banned(node, text)
    assert not banned(node, "Return the row.")
