"""What goes wrong between the workers and a server: slow and lossy links, a way that is cut, or both."""

from collections.abc import Callable, Mapping

from tests.chaos.links import Weather
from tests.chaos.services import pause
from tests.chaos.stage import Act, Stage

# Longer than a worker waits for the store, shorter than the settings let a job run.
LASTS_S = 4.0


def _in(weather: Callable[[Stage], Weather], peer: str) -> Act:
    def act(stage: Stage) -> str | None:
        link = stage.links.get(peer)
        if link is None:
            return None
        link.weather = weather(stage)
        pause(LASTS_S)
        told = link.weather.told()
        link.mend()
        return told

    return act


def _slow(stage: Stage) -> Weather:
    return Weather(latency_s=stage.dice.choice((0.02, 0.1)), jitter_s=stage.dice.choice((0.05, 0.3)))


def _lossy(stage: Stage) -> Weather:
    return Weather(loss=stage.dice.choice((0.1, 0.4)))


def _one_way(stage: Stage) -> Weather:
    there = stage.dice.random() < 0.5
    return Weather(there=there, back=not there)


def _cut(peer: str) -> Act:
    def act(stage: Stage) -> str | None:
        link = stage.links.get(peer)
        if link is None:
            return None
        link.cut()
        pause(LASTS_S)
        link.mend()
        return "dropped and refused"

    return act


def _acts(peer: str) -> Mapping[str, Act]:
    return {
        f"link to the {peer} slow": _in(_slow, peer),
        f"link to the {peer} lossy": _in(_lossy, peer),
        f"link to the {peer} cut one way": _in(_one_way, peer),
        f"link to the {peer} cut": _cut(peer),
    }


NETWORK_ACTS: Mapping[str, Act] = {
    name: act for peer in ("store", "bus", "warehouse") for name, act in _acts(peer).items()
}
