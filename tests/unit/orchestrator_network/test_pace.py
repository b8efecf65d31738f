"""No answer's time tells how much a client typed."""

from __future__ import annotations

import pytest
from loopback import NAMES, WORDS, config_of, participant, plan_of, text_trainer

from orchestrator.network.pace import Pace
from orchestrator.network.server import setup_message


class Clock:
    """Time that passes only where the test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds


@pytest.mark.parametrize(("step", "leaves"), [(0.0, [0.007, 0.025, 2.3]), (1.0, [1.0, 1.0, 3.0]), (3.0, [3.0] * 3)])
def test_training_is_answered_after_whole_steps(keys, step, leaves):
    """7 ms for 10 sentences and 25 ms for 200 were measured; 2.3 s for one that takes longer than a step."""
    found = []
    for training_s in (0.007, 0.025, 2.3):
        clock, notes = Clock(), []

        def slow(config, size, clock=clock, training_s=training_s):
            def train(*arguments):
                clock.sleep(training_s)
                return text_trainer(config, size)(*arguments)

            return train

        pace = Pace(step, notes.append, clock, clock.sleep)
        client = participant(keys, NAMES[0], load_trainer=slow, pace=pace)
        client.answer(setup_message(config_of(), WORDS))
        assert clock.now == 100.0, "nothing is made of the text before it is asked for"
        client.answer(plan_of(config_of()))
        found.append(clock.now - 100.0)
        told = (
            "training took 2.3 s, longer than a step of 1 s: the server sees that it took 3 steps; raise --answer-step"
        )
        assert notes == ([told] if step and training_s > step else [])
    assert found == pytest.approx(leaves)


def test_a_training_that_fails_is_held_too():
    """That it failed shows in the answer; when it did would tell how far it got."""
    clock = Clock()

    def fail():
        with Pace(1.0, [].append, clock, clock.sleep).held("training"):
            clock.sleep(0.25)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert clock.now == 101.0
