"""Subscription filters: the Pub/Sub filter language compiled to a predicate over the attributes of a message.

Understood: `attributes.k = "v"`, `attributes.k != "v"`, `attributes:k`, `hasPrefix(attributes.k, "v")`, `NOT` and its
short form `-`, `AND`, `OR`, parentheses; a key may be quoted. `AND` and `OR` may only be mixed with parentheses. A
message without the key satisfies `!=`. Source: "Filter messages from a subscription", Pub/Sub documentation.
"""

import re
from collections.abc import Callable, Mapping

from worker.local.pubsub.model import CallRefused, RefusalCode

Predicate = Callable[[Mapping[str, str]], bool]

# Documented limit, which also bounds the depth of recursion in the parser.
FILTER_BYTES_MAX = 256

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z0-9_][A-Za-z0-9_-]*)|(?P<symbol>!=|[=:().,-]))""",
    re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def compile_filter(expression: str) -> Predicate:
    """Return *expression* as a predicate; an empty expression accepts every message.

    Raises:
        CallRefused: `INVALID_ARGUMENT`, the expression is longer than 256 bytes or not in the filter language.
    """
    if not expression.strip():
        return _always
    if len(expression.encode()) > FILTER_BYTES_MAX:
        raise _refuse(f"The filter is longer than {FILTER_BYTES_MAX} bytes.")
    parser = _Parser(_tokens(expression))
    predicate = parser.expression()
    parser.expect_end()
    return predicate


def _always(attributes: Mapping[str, str]) -> bool:  # noqa: ARG001 - a predicate like any other
    return True


def _refuse(detail: str) -> CallRefused:
    return CallRefused(RefusalCode.INVALID_ARGUMENT, f"Invalid filter: {detail}")


def _tokens(expression: str) -> list[str]:
    tokens, position, end = [], 0, len(expression.rstrip())
    while position < end:
        match = _TOKEN.match(expression, position)
        if match is None:
            raise _refuse(f"cannot read it from character {position + 1}: {expression[position:]!r}")
        tokens.append(match.group().strip() if match["string"] is None else match["string"])
        position = match.end()
    return tokens


def _unquote(literal: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), literal[1:-1], flags=re.DOTALL)


class _Parser:
    """Recursive descent parser for the tokens of a filter."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0

    def expression(self) -> Predicate:
        """Read terms joined by a single kind of operator."""
        terms, joined_by = [self._term()], ""
        while self._peek() in {"AND", "OR"}:
            operator = self._next()
            if joined_by not in {"", operator}:
                raise _refuse("AND and OR are mixed without parentheses.")
            joined_by = operator
            terms.append(self._term())
        if joined_by == "OR":
            return lambda attributes: any(term(attributes) for term in terms)
        return lambda attributes: all(term(attributes) for term in terms)

    def expect_end(self) -> None:
        """Refuse tokens after a complete expression."""
        if self._position < len(self._tokens):
            raise _refuse(f"{self._tokens[self._position]!r} was not expected.")

    def _term(self) -> Predicate:
        if self._peek() in {"NOT", "-"}:
            self._next()
            inner = self._term()
            return lambda attributes: not inner(attributes)
        if self._peek() == "(":
            self._next()
            predicate = self.expression()
            self._expect(")")
            return predicate
        if self._peek() == "hasPrefix":
            return self._prefix()
        return self._comparison()

    def _prefix(self) -> Predicate:
        self._next()
        self._expect("(")
        self._expect("attributes")
        self._expect(".")
        key = self._key()
        self._expect(",")
        prefix = self._string()
        self._expect(")")
        return lambda attributes: key in attributes and attributes[key].startswith(prefix)

    def _comparison(self) -> Predicate:
        self._expect("attributes")
        if self._peek() == ":":
            self._next()
            key = self._key()
            return lambda attributes: key in attributes
        self._expect(".")
        key = self._key()
        operator = self._next()
        if operator not in {"=", "!="}:
            raise _refuse(f"'=' or '!=' was expected, not {operator!r}.")
        value = self._string()
        if operator == "=":
            return lambda attributes: attributes.get(key) == value
        return lambda attributes: attributes.get(key) != value

    def _key(self) -> str:
        token = self._next()
        if token.startswith('"'):
            return _unquote(token)
        if token[:1].isalnum() or token[:1] == "_":
            return token
        raise _refuse(f"an attribute key was expected, not {token!r}.")

    def _string(self) -> str:
        token = self._next()
        if not token.startswith('"'):
            raise _refuse(f"a quoted value was expected, not {token!r}.")
        return _unquote(token)

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise _refuse("it ends too early.")
        self._position += 1
        return token

    def _expect(self, wanted: str) -> None:
        found = self._next()
        if found != wanted:
            raise _refuse(f"{wanted!r} was expected, not {found!r}.")
