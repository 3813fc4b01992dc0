"""What `--dry-run` says of threads and of a generator's key-value cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayalign.config.cluster import GIB
from rayalign.config.run import RunConfig
from rayalign.launch.shares import describe_shares, describe_threads
from rayalign.learning.engine_cache import cache_need
from tests.tiny_run import make_base
from tests.unit.planned import SHAPE, config_with, on_cpu


def test_threads_in_words() -> None:
    tried = ", fewer where fewer are faster"
    assert describe_threads(on_cpu(), 8) == (
        f"threads on 8 cores: each generator at most 8{tried}; each scorer 1; each learner worker at most 8{tried}"
    )
    judge = {"type": "judge", "transport": "vllm", "model": "demo"}
    pools = {"cluster__generators": {"tensor_parallel": 2}, "training__zero_stage": 3, "training__workers": 4}
    assert describe_threads(on_cpu(**pools), 8) == (
        "threads on 8 cores: each process of a generator 4; each scorer 1; each learner worker 2"
    )
    judged = RunConfig.model_validate({**on_cpu().to_dict(), "scoring": [{"type": "rule", "function": "demo"}, judge]})
    assert "each generator at most 4" in describe_threads(judged, 8) and "each judge 4;" in describe_threads(judged, 8)
    assert (
        describe_threads(config_with(), 8)
        == "threads on 8 cores: each generator 1; each scorer 1; each learner worker 1"
    )


@pytest.mark.parametrize(
    ("pools", "said"),
    [
        ({"generators": {"gpus": 1}}, "0.92 of its GPU's memory"),
        ({"generators": {"gpus": 0.5}}, "0.45 of its GPU's memory"),
        ({"generators": {"gpus": 1, "memory": 40}}, "40 GiB of its GPU"),
        ({"placement": "colocated", "generators": {"gpus": 1}, "learner": {"gpus": 1}}, "0.85 of its GPU's memory"),
    ],
)
def test_of_gpus_the_share_is_said(pools: dict[str, Any], said: str, tmp_path: Path) -> None:
    config = RunConfig.model_validate({**on_cpu().to_dict(), "cluster": pools})
    assert list(describe_shares(config, tmp_path))[1] == (
        f"key-value cache of each generator: what its weights leave of {said}"
    )


def test_of_a_cluster_that_is_joined_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 layers with 2 heads' keys and values of 8 numbers: 256 bytes a token, and 52 MiB for all sequences."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    base = make_base(tmp_path / "base", context=2048)
    threads, cache = describe_shares(on_cpu(), base)
    assert "shared out when the run starts" in threads
    assert cache == (
        "key-value cache of each generator: 0.25 GiB, for 128 sequences of 1537 tokens; all on a node have 0.125 of "
        "its memory at most"
    )
    for memory, said in ((0.3, "0.3 of its node's memory"), (2, "2.00 GiB, for 128 sequences of 1537 tokens")):
        _, cache = describe_shares(on_cpu(cluster__generators={"memory": memory}), base)
        assert cache == f"key-value cache of each generator: {said}"


@pytest.mark.parametrize(("generators", "said"), [(1, "1.00 GiB, room for 78"), (3, "0.33 GiB, room for 26")])
def test_the_cache_is_that_of_an_engine_on_this_machine(
    generators: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 8 GiB all engines have one: 1,024 blocks, of which one is empty and a sequence takes 13."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = on_cpu(cluster__generators={"max": generators})
    monkeypatch.setattr("rayalign.launch.shares.main_memory", lambda: 8 * GIB)
    monkeypatch.setattr("rayalign.launch.shares.need_of_model", lambda *_: cache_need(config, SHAPE))
    assert list(describe_shares(config, tmp_path))[1] == (
        f"key-value cache of each generator: {said} of 128 sequences of 1537 tokens"
    )
