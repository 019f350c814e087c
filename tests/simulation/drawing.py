"""Draws the schedule of a seed: nights, faults, people."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from random import Random

from statemachine.model import BuildMode, OnRerun, OnUpstreamFailure
from tests.simulation.nights import draw_night, success_of, upgraded_night
from tests.simulation.plan import (
    MINUTE,
    PROCESSORS,
    SECOND,
    START,
    TONIGHT,
    Happening,
    Intensity,
    Mode,
    Schedule,
    at,
)
from tests.simulation.raising import IN_DECIDE, IN_DECODE, body


def draw(seed: int) -> Schedule:
    """Draw the schedule of a seed."""
    rng = Random(seed)  # noqa: S311 - repeatable, not secret
    calm = rng.random() < 0.15
    heal_at = at(TONIGHT, 22, 20) + timedelta(seconds=rng.randrange(0, 2 * 3600))
    schedule = Schedule(
        seed=seed,
        mode=Mode.LIVENESS if calm or rng.random() < 0.7 else Mode.SAFETY,
        workers=rng.choice((2, 2, 3, 4)),
        build_threads=rng.choice((1, 1, 2)),
        on_upstream_failure=rng.choice(
            (OnUpstreamFailure.WAIT, OnUpstreamFailure.WAIT, OnUpstreamFailure.FALLBACK_NOW)
        ),
        rerun=rng.choice((OnRerun.HOLD, OnRerun.HOLD, OnRerun.REBUILD)),
        drain_grace=timedelta(seconds=rng.choice((0, 10, 20, 30))),
        first_start=START,
        intensity=Intensity() if calm else _intensity(rng),
        heal_at=heal_at,
        end_at=at(TONIGHT, 24, 40),
        calm=calm,
        skews=rng.random() < 0.5,
    )
    for day in _days(rng):
        draw_night(schedule, day, rng)
    if rng.random() < 0.2:
        schedule.happenings += _poison(rng)
    if rng.random() < EARLY:
        schedule.happenings += _early_replays(schedule, rng)
    if rng.random() < RAISING:
        schedule.happenings += _raising(schedule.happenings, rng)
    if not calm:
        schedule.happenings += _disasters(schedule, rng)
        schedule.happenings += _people(schedule, rng)
    if rng.random() < RETRACTING:
        schedule.happenings += _retractions(schedule, rng)
    if not calm and rng.random() < REPLAYING:
        schedule.happenings += _replays_of_published_dates(schedule, rng)
    schedule.happenings.append(Happening(at=at(TONIGHT, 24, 0), kind="midnight"))
    schedule.happenings.sort(key=lambda happening: happening.at)
    return schedule


def draw_strike(seed: int, kind: str) -> Schedule:
    """Draw a night of a fallback and an upgrade, and strike it within a minute of the upgrade."""
    rng = Random(seed)  # noqa: S311 - repeatable, not secret
    schedule = draw(seed)
    night, happenings = upgraded_night(rng)
    assert night.complete_by is not None
    strikes = rng.choice((1, 1, 2))
    if kind == "raising":
        happenings += _raising(happenings, rng)
        strikes = 0
    for _ in range(strikes):
        moment = night.complete_by + timedelta(seconds=rng.uniform(-40, 60))
        span = timedelta(seconds=rng.choice((3, 30, 70)))
        happenings.append(Happening(at=moment, kind=kind, night=TONIGHT, count=rng.randrange(99), span=span))
    happenings.append(Happening(at=at(TONIGHT, 24, 0), kind="midnight"))
    schedule.happenings = sorted(happenings, key=lambda happening: happening.at)
    schedule.nights = {TONIGHT: night}
    schedule.mode, schedule.calm = Mode.LIVENESS, False
    schedule.end_at = at(TONIGHT, 24, 40)
    schedule.heal_at = night.complete_by + timedelta(seconds=200)
    schedule.intensity.slow_build, schedule.intensity.fatal, schedule.intensity.delay_max = 0.5, 0.0, SECOND
    return schedule


def _intensity(rng: Random) -> Intensity:
    """Few kinds of faults at a time, so that each also meets a world that otherwise works."""
    scale = rng.choice((0.002, 0.01, 0.03))

    def sometimes(value: float) -> float:
        return value if rng.random() < 0.4 else 0.0

    return Intensity(
        crash=sometimes(scale),
        unavailable_before=sometimes(scale),
        unavailable_after=sometimes(scale),
        fatal=sometimes(scale / 10),
        preempt=sometimes(scale * 4),
        duplicate=sometimes(0.2),
        ack_lost=sometimes(0.2),
        slow_build=sometimes(0.5),
        delay_max=rng.choice((SECOND, 20 * SECOND, 5 * MINUTE)),
    )


def _days(rng: Random) -> list[date]:
    """Tonight, and now and then tomorrow or an old date that somebody sends again."""
    days = [TONIGHT]
    if rng.random() < 0.25:
        days.append(TONIGHT - timedelta(days=rng.randrange(1, 6)))
    if rng.random() < 0.08:
        days.append(TONIGHT + timedelta(days=1))
    return days


def _poison(rng: Random) -> list[Happening]:
    bodies = (
        b"not json",
        b"[]",
        b'{"processor": "player_daily_cache", "analysis_date": "2024-12-15", "status": "found"}',
        b'{"processor": "somebody_else", "analysis_date": "2024-12-15", "status": "success"}',
        b'{"processor": "player_daily_cache", "analysis_date": "2024-13-45", "status": "success"}',
        b'{"processor": "player_daily_cache", "analysis_date": "2034-12-15", "status": "success"}',
        b'{"processor": "player_daily_cache", "analysis_date": 20241215, "status": "success"}',
        b"\xff\xfe",
        b"x" * 70_000,
    )
    return [
        Happening(at=START + timedelta(seconds=rng.randrange(7000)), kind="poison", body=rng.choice(bodies))
        for _ in range(rng.randrange(1, 4))
    ]


def _early_replays(schedule: Schedule, rng: Random) -> Iterator[Happening]:
    """A person has tonight built when little or nothing is there: mostly it fails, and the night comes all the same."""
    schedule.calm = False
    night = schedule.nights[TONIGHT]
    night.phase3 = rng.random() < 0.2
    first = START + timedelta(seconds=rng.randrange(1, 600))
    for number in range(rng.choice((1, 1, 2))):
        yield Happening(at=first + number * 10 * MINUTE, kind="early_replay", night=TONIGHT)
    if rng.random() < 0.15:
        yield Happening(at=first + timedelta(seconds=rng.randrange(5, 2000)), kind="cancel", night=TONIGHT)


def _raising(happenings: Sequence[Happening], rng: Random) -> list[Happening]:
    """Messages for which the product's own code raises, mostly beside a good one."""
    moments = [one.at for one in happenings] or [START]
    drawn = []
    for _ in range(rng.randrange(1, 4)):
        where = rng.choice((IN_DECODE, IN_DECIDE))
        moment = rng.choice(moments) + timedelta(seconds=rng.choice((-1, 0, 0, 1)))
        drawn.append(
            Happening(at=max(moment, START), kind="raising", body=body(TONIGHT, rng.choice(PROCESSORS), where))
        )
    return drawn


# Often enough that each fault also meets a replay of a date that the store does not know as published.
REPLAYING = 0.15


def _replays_of_published_dates(schedule: Schedule, rng: Random) -> Iterator[Happening]:
    """The ledger holds a commit that the store does not know: made by hand, or forgotten. Then a person replays."""
    night = rng.choice(list(schedule.nights))
    moment = START + timedelta(seconds=rng.randrange(600, 7000))
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(("by_hand", "by_hand", "expire", "wipe", "snapshot_restore"))
        early = timedelta(seconds=rng.choice((0, 1, 5, 60)))
        yield Happening(at=max(moment - early, START), kind=kind, night=night, span=early)
    if rng.random() < 0.4:
        # The claim cannot read the ledger at first.
        yield Happening(at=moment, kind="warehouse_away", span=timedelta(seconds=rng.choice((1, 3, 20, 400))))
    for kind in rng.choice((("replay",), ("replay",), ("take_over",), ("replay", "by_hand"), ("replay", "cancel"))):
        mode = rng.choice((BuildMode.NORMAL, BuildMode.FORCED_FALLBACK))
        yield Happening(at=moment, kind=kind, night=night, build_mode=mode)
        moment += timedelta(seconds=rng.choice((0, 1, 5)))


# Often enough that each fault also meets a retraction.
RETRACTING = 0.15
# Often enough that each fault also meets a date that failed before its deadline.
EARLY = 0.12
RAISING = 0.1
DISASTERS = (
    "store_away", "warehouse_away", "bus_away", "wipe", "snapshot_restore", "damage", "expire", "crash", "freeze",
    "freeze", "downtime", "restart_all", "child_dies", "log_stalls", "junk_member",
)  # fmt: skip


def _disasters(schedule: Schedule, rng: Random) -> Iterator[Happening]:
    """Up to three at chosen moments; half of them where it hurts, around the deadline or around an event."""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        kind = rng.choice(DISASTERS)
        if rng.random() < 0.03:
            kind = "clock_jump"
        moment = START + timedelta(seconds=rng.randrange(7500))
        if rng.random() < 0.6 and schedule.happenings:
            moment = rng.choice(schedule.happenings).at + timedelta(seconds=rng.choice((-30, -1, 0, 1, 2, 5, 30, 70)))
        elif rng.random() < 0.5:
            moment = at(TONIGHT, 23, 25) + timedelta(seconds=rng.randrange(-60, 120))
        moment = max(moment, START + SECOND)
        span = timedelta(seconds=rng.choice((3, 20, 61, 130, 400, 1800)))
        night = rng.choice(list(schedule.nights))
        yield Happening(at=moment, kind=kind, span=span, night=night, count=rng.randrange(10**6))


def _retractions(schedule: Schedule, rng: Random) -> Iterator[Happening]:
    """A person takes back what a processor announced, minutes or an instant later; half of the time it runs again."""
    reports = [one for one in schedule.happenings if one.kind == "event" and one.processor]
    for report in rng.sample(reports, min(len(reports), rng.choice((1, 1, 2)))):
        assert report.night is not None
        schedule.calm = False
        moment = report.at + timedelta(seconds=rng.choice((0, 1, 3, 10, 60, 300, 1500, 4000)))
        if rng.random() < 0.4:
            # What it completes cannot be built at once: the date is ready, and waits for its next attempt.
            yield Happening(at=report.at, kind="warehouse_away", span=20 * SECOND)
            moment = report.at + timedelta(seconds=rng.choice((30, 60, 200)))
        yield Happening(
            at=moment, kind="retract", night=report.night, processor=report.processor, count=rng.randrange(4)
        )
        if rng.random() < 0.5:
            again = moment + timedelta(seconds=rng.choice((1, 20, 200, 1200)))
            yield Happening(at=again, kind="rows", night=report.night, processor=report.processor)
            yield success_of(report.night, report.processor, again + SECOND, rng)


def _people(schedule: Schedule, rng: Random) -> Iterator[Happening]:
    if rng.random() > 0.15:
        return
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(("replay", "replay", "take_over", "cancel"))
        mode = rng.choice((BuildMode.NORMAL, BuildMode.NORMAL, BuildMode.FORCED_FALLBACK, BuildMode.YESTERDAY))
        moment = START + timedelta(seconds=rng.randrange(7000))
        if rng.random() < 0.6 and schedule.happenings:
            moment = rng.choice(schedule.happenings).at + timedelta(seconds=rng.choice((0, 1, 2, 5, 90)))
        night = rng.choice(list(schedule.nights))
        yield Happening(at=max(moment, START), kind=kind, night=night, build_mode=mode)
