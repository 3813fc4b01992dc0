"""What `rayalign submit` does where the job server answers with a refusal; the rest is shown on a real head."""

from __future__ import annotations

from typing import Any

import pytest

from rayalign.commands import submit
from rayalign.errors import ClusterError

NO_AGENT = "Request failed with status code 500: No available agent to submit job, please try again later.."


class Head:
    """A job server that answers with `refusals` first."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.taken: list[dict[str, Any]] = []

    def submit_job(self, **job: Any) -> None:
        if self.refusals:
            raise RuntimeError(self.refusals.pop(0))
        self.taken.append(job)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "POLL_S", 0.0)


def test_a_head_whose_agent_is_not_up_yet_is_asked_again() -> None:
    head = Head(NO_AGENT, NO_AGENT)
    submit._submit(head, {"submission_id": "a-1"})
    assert head.taken == [{"submission_id": "a-1"}]


def test_a_head_that_never_has_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "AGENT_S", 0.0)
    with pytest.raises(ClusterError, match=r"no agent for jobs(.|\n)*--dashboard-agent-listen-port"):
        submit._submit(Head(*[NO_AGENT] * 1000), {})


def test_another_refusal_is_not_tried_again() -> None:
    head = Head("Request failed with status code 413")
    with pytest.raises(RuntimeError, match="413"):
        submit._submit(head, {})
    assert head.refusals == [] and head.taken == []
