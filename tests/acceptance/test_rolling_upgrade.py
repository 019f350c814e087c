"""This version and an older one share one Redis, one bus and one warehouse, and replace each other.

A small part of `make upgrade-test`. The older one may bear another DuckDB, so the warehouse is the BigQuery peer.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.upgrade.judge import Evidence, violations
from tests.upgrade.run import play
from tests.upgrade.stage import FORMAT, PACKAGES, NoHistory, Stage, unpack, unpack_oldest

NIGHTS = 4


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nights_end_soundly_while_versions_replace_each_other_there_and_back(tmp_path: Path) -> None:
    old = unpack_oldest(tmp_path / "old")
    with Stage(tmp_path, NIGHTS) as stage:
        result, evidence = play(stage, old, batch=2, plan=(("old", True), ("new", False)))

    assert [] == result.violations
    assert {"done": 3, "degraded": 1} == result.states
    assert {"kill -9: old -> new": 1, "SIGTERM: new -> old": 1} == result.replacements
    assert {"old", "new"} >= set(result.builds_by)
    _the_judge_notices(next(one for one in evidence if one.expected == "done" and one.replays))


def _the_judge_notices(sound: Evidence) -> None:
    """What it found sound it finds unsound once anything is wrong with it."""
    assert sound.record is not None
    damages: dict[str, Callable[[Evidence], Evidence]] = {
        "no acked completion lost": lambda one: replace(one, record=None),
        "one commit per generation": lambda one: replace(one, publications=[*one.publications, one.publications[0]]),
        "published rows can be read again": lambda one: replace(one, stored={}),
        "done => published": lambda one: replace(
            one, outcomes=[told for told in one.outcomes if told["generation"] > 1]
        ),
        "published => committed": lambda one: replace(one, ledger={**(one.ledger or {}), "row_count": 1}),
        "all or nothing": lambda one: replace(one, visible={**one.visible, 1: 3}),
        "legal move": lambda one: replace(one, history=[replace(one.history[0], reason="claimed"), *one.history[1:]]),
        "monotone generation": lambda one: replace(one, history=one.history[::-1]),
        "same final result": lambda one: replace(one, expected="degraded"),
        "one request, one generation": lambda one: replace(one, replays=0),
    }
    for invariant, damage in damages.items():
        assert any(invariant in what for what in violations(damage(sound))), invariant


def test_a_revision_that_is_not_here_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NoHistory, match=r"no commit or tag|git is not installed|no git repository"):
        unpack("0123456789abcdef0123456789abcdef01234567", tmp_path / "old")


def test_files_without_a_history_are_their_own_older_version(tmp_path: Path) -> None:
    """A release that was unpacked somewhere has no older revision beside it."""
    files = tmp_path / "files"
    for package in PACKAGES:
        (files / package).mkdir(parents=True)
        (files / package / "__init__.py").touch()

    version = unpack_oldest(tmp_path / "old", files)

    assert version.folder == tmp_path / "old"
    version.check()


def test_a_revision_whose_warehouse_is_refused_is_no_older_version(tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    root = tmp_path / "files"
    _commit(git, root, "README.md")

    with pytest.raises(NoHistory, match="refuses its warehouse"):
        unpack("HEAD", tmp_path / "old", root)
    _commit(git, root, FORMAT)
    _commit(git, root, "CHANGELOG.md")

    assert not (unpack_oldest(tmp_path / "oldest", root).folder / "CHANGELOG.md").exists()
    _commit(git, root, "NEWS.md")
    subprocess.run([git, "-C", str(root), "tag", "v9"], check=True)

    assert (unpack_oldest(tmp_path / "tagged", root).folder / "NEWS.md").exists()


def _commit(git: str, root: Path, name: str) -> None:
    """A revision that brings one file."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--no-verify", "-m", name)):
        subprocess.run([git, "-C", str(root), *who, *words], check=True)
