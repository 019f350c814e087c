"""Invariants of what is published and told: commits, fences, figures, outcomes, the audit."""

from collections import Counter, defaultdict

from tests.chaos.evidence import Evidence, Line, instant
from tests.chaos.finding import CLOCK_S, Finding
from tests.simulation.moves import BY_A_BUILDER, ENDED, PUBLISHED

PIPELINE = "ml_feature_store_v2"


def single_commit(seen: Evidence, finding: Finding) -> None:
    """What took effect at the warehouse is what the ledger lists, each generation once, the newest one last."""
    commits, publications = seen.commits(), seen.publications()
    for day, generation in {*commits, *publications}:
        made = sorted(job.build_id for job in commits.get((day, generation), []))
        listed = sorted(one.build_id for one in publications.get((day, generation), []))
        finding.demand(len(made) == 1, f"{day} g{generation}: published by {made}")
        finding.demand(made == listed, f"{day} g{generation}: published by {made}, the ledger lists {listed}")
    # A row that was written twice says the same twice.
    worth = Counter(build_id for build_id, _row in {(row["build_id"], repr(row)) for row in seen.rows("history")})
    for found in publications.values():
        for one in found:
            times = worth[one.build_id]
            finding.demand(times == 1, f"{one.build_id}: {times} rows say what it is worth")
    # The execution log is written after the publication, outside of it: a row may be missing, none may be wrong.
    builds = {one.build_id for found in publications.values() for one in found}
    for row in seen.rows("execution"):
        logged = row["state"] in PUBLISHED
        finding.demand(not logged or row["build_id"] in builds, f"{row['build_id']}: logged as {row['state']}")
    for row in seen.rows("ledger"):
        listed = [one["generation"] for one in row["publications"]]
        finding.demand(listed == sorted(set(listed)), f"{row['analysis_date']}: the ledger lists {listed}")
        last = (row["publications"] or [{"generation": 0, "build_id": None}])[-1]
        same = (last["generation"], last["build_id"]) == (row["generation"], row["build_id"])
        finding.demand(same, f"{row['analysis_date']}: published is {row['build_id']}, listed last {last}")
    for day, builds in _pointers(seen).items():
        finding.demand(len(builds) == 1, f"{day}: the ledger points at {sorted(builds)}")


def _pointers(seen: Evidence) -> dict[str, set[str]]:
    """The builds that the ledger points at, by date; two rows of a date say the same, or one of them nothing."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in seen.rows("ledger"):
        if row["generation"]:
            found[row["analysis_date"]].add(row["build_id"])
    return found


def told(seen: Evidence, finding: Finding) -> None:
    """What is published, or failed, was told; what left the outbox, too."""
    heard = {line["outcome"]["event_id"] for line in seen.of_kind("outcome")}
    for day, line in seen.final_records().items():
        record = line["record"]
        if record["state"] in ENDED and record.get("generation"):
            event_id = f"{PIPELINE}:{day}:{record['generation']}"
            finding.demand(event_id in heard, f"{event_id}: {record['state']}, and nobody was told")
    for (day, generation), jobs in seen.commits().items():
        later = [
            job.at for (other, g), found in seen.commits().items() if other == day and g > generation for job in found
        ]
        if not seen.lost_between(day, jobs[0].at, min(later, default=float("inf"))):
            event_id = f"{PIPELINE}:{day}:{generation}"
            finding.demand(event_id in heard, f"{event_id}: committed, and nobody was told")
    for line in seen.of_kind("final_store"):
        finding.demand(line["outbox"] == 0, f"{line['outbox']} outcomes are left in the outbox")


def committed_before_told(seen: Evidence, finding: Finding) -> None:
    commits = seen.commits()
    published = seen.published()
    for line in seen.of_kind("outcome"):
        outcome = line["outcome"]
        place = (outcome["analysis_date"], outcome["generation"])
        if outcome["state"] == "failed":
            finding.demand(place not in commits, f"{outcome['event_id']}: told as failed, and committed")
            continue
        jobs = commits.get(place, [])
        finding.demand(jobs, f"{outcome['event_id']}: told as {outcome['state']}, and never committed")
        finding.demand(not jobs or jobs[0].at <= line["t"] + CLOCK_S, f"{outcome['event_id']}: told before its commit")
        row = published.get(place)
        same = row is not None and (row["state"], row["row_count"], row["quality_score"]) == (
            outcome["state"],
            outcome["row_count"],
            outcome["quality_score"],
        )
        finding.demand(same, f"{outcome['event_id']}: told {outcome['quality_score']}, the warehouse has {row}")


def monotone(seen: Evidence, finding: Finding) -> None:
    before: dict[tuple[str, int], Line] = {}
    for line in seen.of_kind("record"):
        place = (line["date"], line["life"])
        earlier = before.get(place)
        before[place] = line
        if earlier is None or seen.losses_of_one().get(line["date"]):
            continue
        # The renewal of a lease changes the revision, and neither version nor record.
        renewed = line["version"] == earlier["version"] and line["record"] == earlier["record"]
        risen = line["version"] > earlier["version"]
        finding.demand(risen or renewed, f"{line['date']}: version {earlier['version']} -> {line['version']}")
        tokens = [(one["record"].get("generation", 0), one["record"].get("attempt", 0)) for one in (earlier, line)]
        finding.demand(tokens[1] >= tokens[0], f"{line['date']}: {tokens[0]} -> {tokens[1]}")
    _ledger_rises(seen, finding)
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    for job in seen.jobs:
        if job.worked:
            last = newest.get((job.day, job.step), (0, 0))
            finding.demand(job.token >= last, f"{job.name}: after {last}")
            newest[job.day, job.step] = job.token
    for row in seen.rows("ledger") if seen.has_jobs else ():
        claimed = newest.get((row["analysis_date"], "claim"), (0, 0))
        held = (row["claimed_generation"], row["claimed_attempt"])
        finding.demand(held == claimed, f"{row['analysis_date']}: the ledger is claimed by {held}, last was {claimed}")


def _ledger_rises(seen: Evidence, finding: Finding) -> None:
    """From one look of a reader to the next, neither a date's claim nor its published generation goes back."""
    before: dict[str, tuple[list[int], int]] = {}
    for look in seen.of_kind("look"):
        for day, claim, generation in look["claims"]:
            earlier = before.get(day, ([0, 0], 0))
            rises = list(claim) >= earlier[0] and generation >= earlier[1]
            finding.demand(rises, f"{day}: claim and publication {earlier} -> {(claim, generation)}")
            before[day] = (list(claim), generation)


def fenced(seen: Evidence, finding: Finding) -> None:
    """No publication under an older token than the newest claim; no builder ends what another one has claimed."""
    claims: dict[str, tuple[int, int]] = {}
    for job in seen.jobs:
        if job.worked and job.step == "claim":
            claims[job.day] = max(claims.get(job.day, (0, 0)), job.token)
        elif job.worked and seen.has_jobs:
            finding.demand(
                job.token == claims.get(job.day), f"{job.name}: published under the claim {claims.get(job.day)}"
            )
    for (day, _life), entries in seen.lives().items():
        owner = None
        for entry in entries:
            if entry["reason"] == "claimed":
                owner = entry["actor"]
            elif entry["reason"] in BY_A_BUILDER and entry["was"] == "running" and owner is not None:
                finding.demand(
                    entry["actor"] == owner, f"{day}: {entry['reason']} by {entry['actor']}, claimed by {owner}"
                )


def confluence(seen: Evidence, finding: Finding) -> None:
    """Each night ends as its tables say, whatever came in which order how often."""
    finals, rows = seen.final_records(), {row["date"]: row for row in seen.rows("rows")}
    for expected in seen.rows("expected"):
        day = expected["date"]
        record = finals.get(day, {}).get("record", {})
        finding.demand(
            record.get("state") == expected["state"], f"{day}: {record.get('state')}, not {expected['state']}"
        )
        published = rows.get(day, {"count": 0, "digest": ""})
        finding.demand(
            published["count"] == expected["count"], f"{day}: {published['count']} rows, not {expected['count']}"
        )
        if expected["count"]:
            finding.demand(published["digest"] == expected["digest"], f"{day}: other rows than worked out")
            score = (record.get("result") or {}).get("quality_score")
            finding.demand(score == expected["score"], f"{day}: score {score}, not {expected['score']}")


def isolated(seen: Evidence, finding: Finding) -> None:
    """A reader sees rows of one build of the date itself, all of them, as ledger and quality say at that instant."""
    sizes = {row["build_id"]: row["row_count"] for row in seen.published().values()}
    for look in seen.of_kind("look"):
        builds = Counter(day for day, _build, _count in look["rows"])
        ledger = dict(look["ledger"])
        quality = {day: (build, count) for day, build, count in look["quality"]}
        for day, build, count in look["rows"]:
            finding.demand(builds[day] == 1, f"{day}: a reader saw rows of {builds[day]} builds")
            finding.demand(build.startswith(f"{day}-"), f"{day}: holds rows of {build}")
            finding.demand(ledger.get(day) == build, f"{day}: rows of {build}, the ledger says {ledger.get(day)}")
            said = quality.get(day)
            finding.demand(said == (build, count), f"{day}: {count} rows of {build}, the quality is of {said}")
            finding.demand(count == sizes.get(build), f"{day}: a reader saw {count} of {sizes.get(build)} rows")
    pointers = _pointers(seen)
    for row in seen.rows("rows"):
        finding.demand(set(row["builds"]) == pointers.get(row["date"]), f"{row['date']}: {row['builds']}")


def readable_again(seen: Evidence, finding: Finding) -> None:
    """The rows of every published build lie there at the end, as readers saw them when they were published."""
    stored = {row["build_id"]: row for row in seen.rows("stored")}
    for row in seen.published().values():
        count = stored.get(row["build_id"], {}).get("count", 0)
        finding.demand(count == row["row_count"], f"{row['build_id']}: {count} of {row['row_count']} rows are left")
    for look in seen.of_kind("look"):
        for read in look["read"]:
            kept = stored.get(read["build_id"], {})
            finding.demand(
                read["digest"] == kept.get("digest"), f"{read['build_id']}: other rows than readers saw at {look['t']}"
            )


def gate(seen: Evidence, finding: Finding) -> None:
    rows_min, score_min = seen.settings["rows_min"], seen.settings["score_min"]
    for line in seen.of_kind("outcome"):
        outcome = line["outcome"]
        if outcome["state"] in PUBLISHED:
            passes = outcome["row_count"] >= rows_min and outcome["quality_score"] >= score_min
            finding.demand(passes, f"{outcome['event_id']}: {outcome['row_count']} rows, {outcome['quality_score']}")
    for row in seen.published().values():
        passes = row["row_count"] >= rows_min and row["quality_score"] >= score_min and row["state"] in PUBLISHED
        what = f"{row['state']}, {row['row_count']} rows, {row['quality_score']}"
        finding.demand(passes, f"{row['build_id']}: published, {what}")


def audited(seen: Evidence, finding: Finding) -> None:
    """Who asked stands in the audit before the build that obeys; one request is one generation."""
    audits = seen.rows("audit")
    asked: dict[str, set[str]] = defaultdict(set)
    for line in seen.of_kind("operator"):
        if line["command"] == "replay":
            asked[line["date"]].add(line["key"])
    replayed = [row for row in seen.rows("history") if row["trigger"] == "replay"]
    published = seen.published()
    for row in replayed:
        begun = instant(row["processed_at"])
        found = [
            a for a in audits if a["analysis_date"] == row["analysis_date"] and instant(a["requested_at"]) <= begun
        ]
        finding.demand(found, f"{row['build_id']}: replayed without a row in the audit before it")
    for day, keys in asked.items():
        generations = {
            generation for (other, generation), row in published.items() if other == day and row["trigger"] == "replay"
        }
        if not seen.losses(day, since=min(line["t"] for line in seen.of_kind("operator"))):
            finding.demand(
                len(generations) <= len(keys), f"{day}: {len(keys)} requests, generations {sorted(generations)}"
            )
    for row in replayed:
        finding.demand(row["analysis_date"] in asked, f"{row['build_id']}: nobody asked for it")


def built_anew(seen: Evidence, finding: Finding) -> None:
    """An accepted replay ends with a publication that a replay built after it, or without any: never an older one."""
    builds = seen.published()
    for (day, _life), entries in seen.lives().items():
        accepted: Line | None = None
        for entry in entries:
            if entry["reason"] == "replay_accepted":
                accepted = entry
            elif accepted is not None and entry["now"] in ENDED:
                if entry["now"] in PUBLISHED:
                    build = builds.get((day, entry["generation"]), {})
                    own = build.get("trigger") == "replay" and instant(build["started_at"]) > (
                        instant(accepted["at"]) - CLOCK_S
                    )
                    finding.demand(own, f"{day}: a replay ended with generation {entry['generation']}, built {build}")
                accepted = None


def amnesia(seen: Evidence, finding: Finding) -> None:
    """Nights whose record was lost on the way end as worked out, and without a second commit."""
    finals = seen.final_records()
    commits = seen.commits()
    expected = {row["date"]: row["state"] for row in seen.rows("expected")}
    for day in seen.days:
        begun = min((line["t"] for line in seen.of_kind("night") if line["date"] == day), default=0.0)
        if any(at >= begun for at in seen.losses(day)):
            state = finals.get(day, {}).get("record", {}).get("state")
            finding.demand(state == expected.get(day), f"{day}: {state} after a loss, not {expected.get(day)}")
            again = [g for (other, g), jobs in commits.items() if other == day and len(jobs) > 1]
            finding.demand(not again, f"{day}: generations {again} were committed again after a loss")
