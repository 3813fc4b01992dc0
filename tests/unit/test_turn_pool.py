"""Generators that are sent to sleep and woken, and what becomes of those that die in each turn; made-up replicas on a
made-up device that holds one of them, or the learner."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from rayalign.actors import generator as generator_module, pool as pool_module
from rayalign.actors.generator import RayGenerator
from rayalign.actors.pool import MAX_TRIES
from rayalign.errors import ActorFailedError, SyncError
from rayalign.records import Adapter, AdapterFiles, Expected, ReplicaState, TokenSequence
from tests.fakes import make_config
from tests.unit.virtual_pool import Clock, Ref, Replica

FIRST = Adapter(1, "adapter", "a" * 64, "b" * 64, 0)
FILES = AdapterFiles(1, "a" * 64, {})
EXPECTED = Expected(1, [TokenSequence([1], [2, 3])], [[-1.0, -2.0]], 0.02)
START_S = 30.0


@dataclass
class Sleeper(Replica):
    """Holds its device from its start on, but asleep."""

    device: set[str] = field(default_factory=set)
    state: ReplicaState | None = None
    asleep: int = 0
    """The level, 0 awake."""
    dies_of: str = ""
    serves: float = 0.0
    """By how much its log-probabilities are off."""
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._come()

    def _come(self) -> None:
        self.device.add(f"generator-{self.index}")
        assert "learner" not in self.device, "out of memory"

    def die(self) -> None:
        super().die()
        self.device.discard(f"generator-{self.index}")

    def _do(self, what: str, act: Callable[..., Any]) -> Any:
        def remote(*given: Any) -> Ref:
            if self.dies_of == what:
                self.die()
            if self.dies_s < math.inf:
                return self.ref(math.inf, None)
            self.done.append(what)
            return self.call(1.0, act(*given))

        return SimpleNamespace(remote=remote)

    @property
    def hold(self) -> Any:
        return self._do("hold", self._hold)

    @property
    def sleep(self) -> Any:
        return self._do("sleep", self._sleep)

    @property
    def wake(self) -> Any:
        return self._do("wake", self._wake)

    @property
    def logps(self) -> Any:
        return self._do("logps", lambda *_: [[-1.0 - self.serves, -2.0]])

    def _hold(self, version: int, files: AdapterFiles | None) -> ReplicaState:
        assert not self.asleep
        self.state = ReplicaState(f"generator-{self.index}", version, files.sha256 if files else None)
        return self.state

    def _sleep(self, level: int) -> str:
        self.asleep = level
        self.device.discard(f"generator-{self.index}")
        return f"generator-{self.index}"

    def _wake(self) -> ReplicaState | None:
        if self.asleep == 2:
            self.state = None
        if self.asleep:
            self._come()
        self.asleep = 0
        return self.state


@dataclass
class Stage:
    """Generators, all that were ever made of them, and the device that they share with a learner."""

    generator: RayGenerator
    made: list[Sleeper]
    device: set[str]
    notes: list[tuple[str, str]]

    def learn(self) -> None:
        """The learner's turn."""
        self.generator.leave()
        assert not self.device
        self.device.add("learner")

    def sample(self) -> None:
        """The generators' turn."""
        self.device.discard("learner")
        self.generator.take()


Begin = Callable[..., Stage]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Generators with an adapter that is served and proven."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr(generator_module.ray, "put", lambda value: value)

    def make_stage(replicas: int = 1, level: int = 1, **first: Any) -> Stage:
        made: list[Sleeper] = []
        device: set[str] = set()
        notes: list[tuple[str, str]] = []

        def make(i: int) -> Sleeper:
            fate = first if len(made) < replicas else {}
            made.append(Sleeper(clock, i, from_s=clock.now + START_S, device=device, **fate))
            return made[-1]

        monkeypatch.setattr(
            generator_module, "Pool", lambda name, _, *rest, **more: pool_module.Pool(name, make, *rest, **more)
        )
        size = {"min": replicas, "max": replicas, "sleep": level}
        config = make_config(cluster={"placement": "colocated", "turns": True, "generators": size})

        def note(kind: str, **fields: Any) -> None:
            notes.append((fields["name"], fields["state"]))

        model: Any = None
        generator = RayGenerator(model, config, "logs", cpus=1, say=str, note=note)
        generator.pool.ready()
        generator.load(FIRST, FILES)
        generator.expect(EXPECTED)
        for one in made:
            one.done.clear()
        return Stage(generator, made, device, notes)

    return make_stage


def test_asleep_it_holds_nothing_and_awake_it_proves_what_it_serves(begin: Begin) -> None:
    stage = begin()
    for _ in range(2):
        stage.learn()
        stage.sample()
    assert stage.made[0].done == ["sleep", "wake", "logps"] * 2
    assert len(stage.made) == 1 and stage.device == {"generator-0"}


def test_what_forgot_its_weights_is_given_them_again(begin: Begin) -> None:
    stage = begin(level=2)
    stage.learn()
    stage.sample()
    assert stage.made[0].done == ["sleep", "wake", "hold", "logps"]
    assert stage.made[0].state == ReplicaState("generator-0", 1, "a" * 64)


def test_one_that_wakes_as_another_ends_the_run(begin: Begin) -> None:
    stage = begin()
    stage.learn()
    stage.made[0].serves = 0.1
    with pytest.raises(SyncError, match=r"generator-0 .* differs from the learner by 0.05"):
        stage.sample()


@pytest.mark.parametrize("replicas", [1, 2])
def test_one_that_dies_asleep_is_made_again_in_the_generators_turn(begin: Begin, replicas: int) -> None:
    stage = begin(replicas)
    stage.learn()
    stage.made[0].die()
    assert len(stage.made) == replicas
    stage.sample()
    stage.generator.pool.ready()
    assert len(stage.made) == replicas + 1
    assert stage.made[-1].done[:3] == ["wake", "hold", "logps"]
    assert stage.device == {f"generator-{i}" for i in range(replicas)}
    stage.learn()
    stage.sample()


def test_one_that_dies_of_going_to_sleep_is_replaced_before_the_turn_passes(begin: Begin) -> None:
    """Else the one in its place would start beside the learner."""
    stage = begin(dies_of="sleep")
    stage.learn()
    assert len(stage.made) == 2
    assert stage.made[1].done == ["wake", "hold", "logps", "sleep"]
    assert ("generator-0", "lost") in stage.notes
    stage.sample()


def test_one_that_dies_of_waking_is_replaced(begin: Begin) -> None:
    stage = begin(dies_of="wake")
    stage.learn()
    stage.sample()
    assert len(stage.made) == 2 and stage.device == {"generator-0"}


def test_one_that_dies_in_its_own_turn_is_there_before_the_next(begin: Begin) -> None:
    """It is noticed only when it is sent to sleep."""
    stage = begin(2)
    stage.made[1].die()
    stage.learn()
    assert stage.made[2].done == ["wake", "hold", "logps", "sleep"]
    stage.sample()


def test_generators_that_cannot_sleep_end_the_run(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(dies_of="sleep")
    monkeypatch.setattr(Sleeper, "__post_init__", lambda self: setattr(self, "dies_of", "sleep") or self._come())
    with pytest.raises(ActorFailedError, match=f"died of (going to )?sleep, {MAX_TRIES} times"):
        stage.learn()
