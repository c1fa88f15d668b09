from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from drf_concord.protocol import locks
from drf_concord.protocol.errors import (
    AlreadyLocked,
    ConcordError,
    InvalidLock,
    LockForbidden,
    LockLimit,
    LockLost,
    NotLocked,
)
from drf_concord.protocol.locks import (
    TRANSITIONS,
    Claim,
    Event,
    Limits,
    Lock,
    Mode,
    Outcome,
    State,
    acquire,
    break_,
    hand_over,
    holds,
    refuses,
    release,
    renew,
    token_lost,
)

from .vectors import cases, load

SECOND = 1_000_000
LIMITS = Limits(**load("locks")["limits"])


@dataclass
class Story:
    """One lock, and what becomes of it."""

    lock: Lock = field(default_factory=Lock)

    def play(self, step: dict[str, Any]) -> str:
        """Do what a step says, and return what it gives."""
        try:
            return getattr(self, step["do"])(step, round(step["at"] * SECOND)) or "done"
        except ConcordError as error:
            return error.code

    def acquire(self, step: dict[str, Any], now: int) -> str:
        claim = Claim(
            step["by"],
            mode=Mode(step.get("mode", "hold")),
            ttl=step.get("ttl"),
            scope=step.get("scope"),
            client=step.get("id"),
            token_hash=step.get("token"),
        )
        need_token = step.get("need_token", False)
        self.lock, outcome = acquire(self.lock, claim, now, LIMITS, need_token=need_token)
        return outcome

    def renew(self, step: dict[str, Any], now: int) -> None:
        self.lock = renew(self.lock, step["by"], step.get("ttl"), now, LIMITS)

    def hand_over(self, step: dict[str, Any], now: int) -> None:
        by, to, token = step["by"], step["to"], step.get("token")
        self.lock = hand_over(self.lock, by, to, token, now, LIMITS)

    def release(self, step: dict[str, Any], now: int) -> None:
        privileged = step.get("privileged", False)
        self.lock = release(self.lock, step["by"], now, privileged=privileged)

    def write(self, step: dict[str, Any], now: int) -> str:
        by, token, need_token = step["by"], step.get("token"), step.get("need_token", False)
        if token_lost(self.lock, by, token, now):
            return "lost"
        refused = refuses(self.lock, step["operation"], by, token, now, need_token=need_token)
        return "refused" if refused else "allowed"


def _break(self: Story, step: dict[str, Any], now: int) -> None:
    self.lock = break_(self.lock, now, step["period"])


setattr(Story, "break", _break)  # a keyword in Python, not in the vectors


@pytest.mark.parametrize("case", cases("locks", "stories"))
def test_stories(case: dict[str, Any]) -> None:
    story = Story()
    for step in case["steps"]:
        before = story.lock

        assert story.play(step) == step["gives"], step

        lock, now = story.lock, round(step["at"] * SECOND)
        expires = step.get("expires", 0)
        assert lock.state(now) == step.get("state", lock.state(now)), step
        assert lock.generation == step.get("generation", lock.generation), step
        assert lock.holder == step.get("holder", lock.holder), step
        if "expires" in step:
            assert lock.expires_at == (None if expires is None else expires * SECOND), step
        if step["gives"] not in ("done", "acquired", "overridden"):
            assert lock is before, step


def test_what_a_lock_knows_of_its_claim() -> None:
    claim = Claim("ada", ttl=5, scope=["update"], reason="why", client="c", token_hash="t")  # type: ignore[arg-type]

    lock, outcome = acquire(Lock(generation=6), claim, 7 * SECOND, LIMITS)

    assert outcome is Outcome.ACQUIRED
    assert lock == Lock(
        generation=7,
        mode=Mode.HOLD,
        holder="ada",
        client="c",
        token_hash="t",
        scope=("update",),
        reason="why",
        acquired_at=7 * SECOND,
        renewed_at=7 * SECOND,
        expires_at=12 * SECOND,
    )


def test_a_refusal_says_when_to_try_again() -> None:
    lock, _ = acquire(Lock(), Claim("ada"), 0, LIMITS)
    frozen, _ = acquire(Lock(), Claim("ada", mode=Mode.FREEZE), 0, LIMITS)

    with pytest.raises(AlreadyLocked) as caught:
        acquire(lock, Claim("guido"), 20 * SECOND, LIMITS)
    assert caught.value.retry_after == 10
    with pytest.raises(AlreadyLocked) as caught:
        acquire(frozen, Claim("guido"), 20 * SECOND, LIMITS)
    assert caught.value.retry_after is None


def test_ones_own_lock_elsewhere_is_called_that() -> None:
    lock, _ = acquire(Lock(), Claim("ada", client="a"), 0, LIMITS)

    with pytest.raises(AlreadyLocked, match="in another window or program") as caught:
        acquire(lock, Claim("ada", client="b"), 10 * SECOND, LIMITS)
    assert caught.value.retry_after == 20


def test_a_refusal_tells_nobody_who_the_holder_is() -> None:
    lock, _ = acquire(Lock(), Claim("ada", reason="secret"), 0, LIMITS)
    for attempt in (
        lambda: acquire(lock, Claim("guido"), 1, LIMITS),
        lambda: release(lock, "guido", 1),
        lambda: renew(lock, "guido", None, 1, LIMITS),
    ):
        with pytest.raises(ConcordError) as caught:
            attempt()
        assert "ada" not in str(caught.value.body())
        assert "secret" not in str(caught.value.body())


def test_a_hold_without_end_is_broken_after_the_period() -> None:
    # nobody is given one, but a row made by hand can be one
    lock = Lock(mode=Mode.HOLD, holder="ada", scope=("write",))

    broken = break_(lock, 10 * SECOND, 5)

    assert broken.expires_at == 15 * SECOND
    assert broken.state(14 * SECOND) is State.BREAKING


def test_to_start_over_cannot_outlast_lowered_limits() -> None:
    lock, _ = acquire(Lock(), Claim("ada", ttl=3600), 0, LIMITS)
    lowered = Limits(ttl=10, max_ttl=10, max_hold=20)

    with pytest.raises(LockLimit):
        acquire(lock, Claim("ada"), 30 * SECOND, lowered)


def test_everything_is_exported_once() -> None:
    assert sorted(set(locks.__all__)) == sorted(locks.__all__)
    assert all(hasattr(locks, name) for name in locks.__all__)


PEOPLE = ("ada", "guido")
people = st.sampled_from((*PEOPLE, None))
clients = st.sampled_from((None, "a", "b"))
ttls = st.sampled_from((None, 1, 10, 3600))
periods = st.sampled_from((0, 5, 60))


class LockMachine(RuleBasedStateMachine):
    """One lock, people who do what they like at any time, and what has to hold whatever they do."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()
        self.now = 0
        self.tokens = 0
        self.generations: list[int] = []
        self.grants: dict[int, str | None] = {}  # who was given the lock, by generation

    @initialize(need_token=st.booleans())
    def choose(self, need_token: bool) -> None:
        self.need_token = need_token

    @rule(microseconds=st.sampled_from((1, SECOND, 5 * SECOND, 29_999_999, 40 * SECOND, 7200 * SECOND)))
    def wait(self, microseconds: int) -> None:
        before = self.lock.state(self.now)
        self.now += microseconds
        after = self.lock.state(self.now)
        if before is not after:
            assert TRANSITIONS[before, Event.EXPIRE] is after
            assert self.lock.expires_at is not None
            assert self.now - microseconds < self.lock.expires_at <= self.now

    @rule(who=people, mode=st.sampled_from(Mode), ttl=ttls, client=clients)
    def acquire(self, who: str | None, mode: Mode, ttl: float | None, client: str | None) -> None:
        before, state = self.lock, self.lock.state(self.now)
        self.tokens += 1
        claim = Claim(who, mode=mode, ttl=ttl, client=client, token_hash=f"t{self.tokens}")
        event = Event.FREEZE if mode is Mode.FREEZE else Event.ACQUIRE
        try:
            lock, outcome = acquire(before, claim, self.now, LIMITS, need_token=self.need_token)
        except AlreadyLocked:
            assert before.live(self.now)
            assert before.mode is Mode.FREEZE or mode is Mode.HOLD
            return
        except LockLimit:
            assert self.now >= before.acquired_at + LIMITS.max_hold * SECOND
            return
        if outcome is Outcome.KEPT:
            assert lock is before
            assert (who, client, mode) == (before.holder, before.client, before.mode)
            assert client is not None
            return
        assert before.mode is not Mode.FREEZE or state is State.FREE, "nothing overrides a freeze"
        if before.live(self.now):
            taken_by_freeze = mode is Mode.FREEZE
            started_over = who == before.holder and not self.need_token
            assert taken_by_freeze or started_over
        assert (outcome is Outcome.OVERRIDDEN) is (mode is Mode.FREEZE and before.live(self.now))
        self.given(lock, TRANSITIONS[state, event])

    @rule(who=people, ttl=ttls)
    def renew(self, who: str | None, ttl: float | None) -> None:
        before, state = self.lock, self.lock.state(self.now)
        try:
            lock = renew(before, who, ttl, self.now, LIMITS)
        except LockForbidden:
            assert who is None or before.holder is None
        except LockLost:
            assert before.holder != who or state in (State.FREE, State.BREAKING)
        except InvalidLock:
            assert before.mode is Mode.FREEZE
        except LockLimit:
            assert self.now >= before.acquired_at + LIMITS.max_hold * SECOND
        else:
            assert before.holder == who
            assert lock.generation == before.generation
            assert lock.token_hash == before.token_hash
            assert lock.state(self.now) is TRANSITIONS[state, Event.RENEW]
            self.lock = lock

    @rule(who=people, to=st.sampled_from(PEOPLE))
    def hand_over(self, who: str | None, to: str) -> None:
        before, state = self.lock, self.lock.state(self.now)
        self.tokens += 1
        try:
            lock = hand_over(before, who, to, f"t{self.tokens}", self.now, LIMITS)
        except (LockForbidden, LockLost, InvalidLock, LockLimit):
            return
        assert before.holder == who
        assert lock.holder == to
        self.given(lock, TRANSITIONS[state, Event.HAND_OVER])

    @rule(who=people, privileged=st.booleans())
    def release(self, who: str | None, privileged: bool) -> None:
        before, state = self.lock, self.lock.state(self.now)
        try:
            lock = release(before, who, self.now, privileged=privileged)
        except LockForbidden:
            assert before.live(self.now)
            assert (state is State.FROZEN and not privileged) or before.holder != who
            return
        if lock is not before:
            assert lock.state(self.now) is TRANSITIONS[state, Event.RELEASE]
            assert lock == Lock(generation=before.generation)
            assert privileged if state is State.FROZEN else before.holder in (who, None)
        self.lock = lock

    @rule(period=periods)
    def break_(self, period: float) -> None:
        before, state = self.lock, self.lock.state(self.now)
        try:
            lock = break_(before, self.now, period)
        except NotLocked:
            assert not before.live(self.now)
            return
        after = TRANSITIONS[state, Event.BREAK]
        if period == 0 or before.holder is None:
            after = TRANSITIONS.get((after, Event.EXPIRE), after)
        assert lock.state(self.now) is after
        assert lock.generation == before.generation
        if lock.expires_at is not None:
            assert lock.expires_at <= self.now + period * SECOND
            assert before.expires_at is None or lock.expires_at <= before.expires_at
        self.lock = lock

    def given(self, lock: Lock, state: State) -> None:
        """Take note of a lock that somebody was given."""
        assert lock.state(self.now) is state
        assert lock.generation == self.lock.generation + 1
        assert lock.generation not in self.grants
        assert lock.token_hash == f"t{self.tokens}"
        self.grants[lock.generation] = lock.holder
        self.lock = lock

    @invariant()
    def the_generation_never_falls(self) -> None:
        self.generations.append(self.lock.generation)
        assert self.generations == sorted(self.generations)

    @invariant()
    def the_holder_is_who_was_given_this_generation(self) -> None:
        if self.lock.live(self.now):
            assert self.grants[self.lock.generation] == self.lock.holder

    @invariant()
    def at_most_one_may_write_under_a_lock(self) -> None:
        token = self.lock.token_hash
        shown = [(who, t) for who in (*PEOPLE, None) for t in (None, token, "other")]
        allowed = {
            who
            for who, t in shown
            if not refuses(self.lock, "update", who, t, self.now, need_token=self.need_token)
            if not token_lost(self.lock, who, t, self.now)
        }
        state = self.lock.state(self.now)
        if state is State.FROZEN:
            assert allowed == set()
        elif self.lock.live(self.now):
            assert allowed == ({self.lock.holder} - {None})
        else:
            assert allowed == {*PEOPLE, None}
        assert len({who for who, t in shown if self.is_held_by(who, t)}) <= 1

    def is_held_by(self, who: str | None, token: str | None) -> bool:
        return holds(self.lock, who, token, self.now, need_token=self.need_token)

    @invariant()
    def no_hold_lasts_longer_than_allowed(self) -> None:
        if self.lock.mode is Mode.HOLD and self.lock.holder is not None:
            assert self.lock.expires_at is not None
            assert self.lock.expires_at <= self.lock.acquired_at + LIMITS.max_hold * SECOND
            assert self.lock.expires_at <= self.lock.renewed_at + LIMITS.max_ttl * SECOND


TestLockMachine = LockMachine.TestCase
TestLockMachine.settings = settings(max_examples=200, stateful_step_count=40)
