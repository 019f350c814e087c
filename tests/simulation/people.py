"""What people ask for: a build again, a stop, a run taken back. Each request has its audit row before its effect."""

from datetime import date
from typing import TYPE_CHECKING

from statemachine.events import CancelRequested, CompletionRetracted, InterventionEvent, ReplayRequested
from statemachine.model import BuildMode
from tests.simulation.checker import BY_HAND_MIN
from tests.simulation.plan import PROCESSORS, Happening
from worker.builds.steps import run_build
from worker.errors import PipelineError
from worker.features.model import BuildKey, BuildRequest
from worker.interventions.audit import Auditor
from worker.interventions.retractions import identity_to_take_back

if TYPE_CHECKING:
    from tests.simulation.world import World


class People:
    """Requests, as commands and the API make them. A person who gets an error does not learn what was stored."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._requests = 0
        operator = world.operator
        self._auditor = Auditor(
            engine=operator.engine,
            log_replay=operator.warehouse.log_replay,
            clock=operator.clock,
            unreported=operator.repair.unreported,
        )

    def intervene(self, happening: Happening) -> None:
        """Do what the schedule has a person do."""
        day = happening.night
        assert day is not None
        self._requests += 1
        name = f"{happening.kind}-{self._requests}"
        match happening.kind:
            case "by_hand":
                self._build_by_hand(day)
            case "retract":
                self._retract(day, happening, name)
            case "early_replay":
                # Asked for hours too early: that takes nothing from the night.
                self._replay(day, ReplayRequested(actor="ana", reason="too early", request_id=name))
            case "cancel":
                self._world.schedule.nights[day].complete_by = None
                self._ask(day, CancelRequested(actor="ana", reason="wrong data", request_id=name))
            case _:
                self._world.schedule.nights[day].complete_by = None
                take_over, mode = happening.kind == "take_over", happening.build_mode
                event = ReplayRequested(actor="ana", reason="again", mode=mode, take_over=take_over, request_id=name)
                self._replay(day, event)

    def _replay(self, day: date, event: ReplayRequested) -> None:
        asked = self._world.checker.replays_asked
        asked[day] = asked.get(day, 0) + 1
        self._ask(day, event)

    def _retract(self, day: date, happening: Happening, name: str) -> None:
        world = self._world
        try:
            record = world.operator.store.load(day)
            identity = identity_to_take_back(day, record, happening.processor, None, PROCESSORS)
        except PipelineError as exc:
            world.say(f"operator: {exc}")
            return
        event = CompletionRetracted(
            processor=happening.processor,
            identity=identity,
            actor="ana",
            reason="wrong rows",
            rebuild=bool(happening.count % 2),
            request_id=name,
        )
        world.schedule.nights[day].complete_by = None
        self._ask(day, event)

    def _ask(self, day: date, event: InterventionEvent) -> None:
        world = self._world
        try:
            decision = self._auditor.apply(day, event)
        except PipelineError as exc:
            world.say(f"operator: {exc}")
        else:
            world.boundary.injected[decision.reason.value] += 1

    def _build_by_hand(self, day: date) -> None:
        """`mlfs build`: a person publishes the date, and the state store learns nothing of it."""
        world = self._world
        warehouse, now = world.operator.warehouse, world.operator.clock.now
        try:
            generation = warehouse.claimed_token(day)[0] + 1
            key = BuildKey(analysis_date=day, generation=generation, attempt=BY_HAND_MIN + world.steps)
            request = BuildRequest(
                key=key,
                mode=BuildMode.NORMAL,
                trigger="manual",
                phase3_lookback_days=30,
                as_of=None,
                started_at=now(),
                claimant=f"{world.operator.name}/{world.steps}",
            )
            outcome = run_build(warehouse, request, now=now)
            world.boundary.injected["published_by_hand"] += outcome.published
        except PipelineError as exc:
            world.say(f"operator: {exc}")
