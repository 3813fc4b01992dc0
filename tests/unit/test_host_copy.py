"""A policy that waits in host memory between its turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rayalign.config.model import LoraSection, ModelSection
from rayalign.learning.host_copy import HostCopy
from rayalign.learning.model import Policy, build_policy
from rayalign.learning.packing import collate_packed
from tests.tiny_run import adapter_files, make_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def policy(base: Path) -> Policy:
    policy = build_policy(base, ModelSection(base=str(base), lora=LoraSection(r=8, alpha=16)))
    policy.load_adapter(adapter_files(base))
    return policy.eval()


def places(policy: Policy) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in [*policy.named_parameters(), *policy.named_buffers()]}


def logps(policy: Policy) -> torch.Tensor:
    return policy(collate_packed([([1, 2, 3], [4, 5]), ([1, 2, 3], [6])]))


def test_every_tensor_moves_and_none_changes(policy: Policy) -> None:
    at_home, before = places(policy), logps(policy).detach()
    copy = HostCopy(policy, "cpu")
    for _ in range(2):
        copy.take()
        away = places(policy)
        assert all(away[name] != at_home[name] for name in at_home)
        assert torch.equal(logps(policy).detach(), before)
        copy.take()
        assert places(policy) == away
        copy.leave()
        assert places(policy) == at_home
        assert torch.equal(logps(policy).detach(), before)
        copy.leave()


def test_what_was_trained_comes_home_and_its_gradient_does_not(policy: Policy) -> None:
    copy = HostCopy(policy, "cpu")
    copy.take()
    logps(policy).sum().backward()
    with torch.no_grad():
        for parameter in policy.trainable():
            assert parameter.grad is not None and parameter.grad.any()
            parameter.sub_(0.1 * parameter.grad)
    trained = logps(policy).detach()
    copy.leave()
    assert all(parameter.grad is None for parameter in policy.parameters())
    assert torch.equal(logps(policy).detach(), trained)
    copy.take()
    assert torch.equal(logps(policy).detach(), trained)
    logps(policy).sum().backward()
    assert all(parameter.grad is not None for parameter in policy.trainable())


def test_tied_weights_stay_tied() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = torch.nn.Embedding(4, 3), torch.nn.Linear(3, 4, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    copy = HostCopy(model, "cpu")
    for move in (copy.take, copy.leave):
        move()
        assert model.head.weight.data_ptr() == model.embed.weight.data_ptr()


def test_it_is_told_of_its_first_arrival_alone() -> None:
    arrived: list[int] = []
    copy = HostCopy(torch.nn.Linear(2, 2), "cpu", lambda: arrived.append(1))
    assert not arrived
    for to_device in (True, True, False, True):
        copy.move(to_device=to_device)
    assert arrived == [1]


def test_a_second_look_finds_what_the_first_did(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device whose attention takes no layout prompts are shared no more, and the model answers as before."""
    before = logps(policy).detach()
    policy.look_again()
    assert policy.shares_prompts and torch.equal(logps(policy).detach(), before)

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel here")

    monkeypatch.setattr("rayalign.learning.model.make_layout", refuse)
    policy.look_again()
    assert not policy.shares_prompts
    padded = policy(policy.collate([([1, 2, 3], [4, 5]), ([1, 2, 3], [6])]))
    assert torch.allclose(padded, before, atol=1e-5)


def test_a_buffer_that_is_made_anew_on_the_device_comes_home_too() -> None:
    """With another shape, or the same."""
    module = torch.nn.Module()
    module.register_buffer("kept", torch.zeros(2))
    copy = HostCopy(module, "cpu")
    for size in (3, 3, 2):
        copy.take()
        module.register_buffer("kept", torch.full((size,), float(size)))
        module.register_buffer("new", torch.ones(size))
        copy.leave()
        assert module.kept.tolist() == [float(size)] * size and module.new.tolist() == [1.0] * size
