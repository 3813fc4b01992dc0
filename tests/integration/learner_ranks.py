"""One rank of a learner without Ray: `LearnerWorker` rounds over variants of a config, for `test_zero`.

    python -m tests.integration.learner_ranks RANK WORLD RENDEZVOUS JOB.json

JOB: {"model": folder, "folder": of the group files, "files": [...], "reward_spread": of round 1, "variants": {name:
config}, "out": folder}. Rank 0 writes what `rounds` found to `<out>/<name>.pickle`.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

ROWS = [([5, 6, 7], [8, 9, 10]), ([5, 6, 7], [11]), ([4, 5], [9, 9, 12])]
"""Prompts and responses whose log-probabilities are asked."""


def main() -> None:
    rank, world, rendezvous, job_file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    os.environ |= {"DS_ACCELERATOR": "cpu", "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    import torch
    import torch.distributed as dist

    import rayalign.actors.learner_worker  # noqa: F401

    # DeepSpeed collects garbage several times a round under ZeRO 3; what was imported is none.
    gc.freeze()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    job = json.loads(Path(job_file).read_text())
    for name, config in job["variants"].items():
        result = rounds(job, config, rank, world)
        if rank == 0:
            (Path(job["out"]) / f"{name}.pickle").write_bytes(pickle.dumps(result))
    dist.destroy_process_group()


def rounds(job: dict[str, Any], config: dict[str, Any], rank: int, world: int) -> dict[str, Any]:
    """Two rounds, the second one twice, and log-probabilities between them; or how the first one was refused, twice."""
    import torch.distributed as dist

    from rayalign.actors.coordinator import UpdateWork
    from rayalign.actors.learner_worker import LearnerWorker
    from rayalign.config.run import RunConfig
    from rayalign.errors import GuardError
    from rayalign.records import TokenSequence
    from rayalign.store.folder import Folder
    from tests.alive_bytes import AliveBytes

    before = engines()
    with AliveBytes() as alive:
        worker = LearnerWorker(RunConfig.model_validate(config), Path(job["model"]), rank, world)
    sequences = [TokenSequence(*row) for row in ROWS]
    folder = Folder(job["folder"])
    found: dict[str, Any] = {"peak": alive.peak, "refused": []}
    found["base"] = worker.logps(sequences, "base", None, None)
    if config["training"]["learning_rate"] > 1:
        for _ in range(2):
            try:
                worker.update(UpdateWork(1, folder, job["files"], None, None))
            except GuardError as error:
                found["refused"].append(str(error))
    else:
        found["first"] = worker.update(UpdateWork(1, folder, job["files"], None, None, job["reward_spread"]))
        adapters = [found["first"].adapter if rank == 0 else None]
        dist.broadcast_object_list(adapters, src=0)
        found["trained"] = worker.logps(sequences, "current", adapters[0], None)
        found["before"] = worker.logps(sequences, "base", adapters[0], None)
        second = UpdateWork(2, folder, job["files"], adapters[0], adapters[0], 1.0)
        found["second"] = worker.update(second)
        found["second_again"] = worker.update(second)
    found["alone"] = worker.logps(sequences[:1], "base", None, None)
    found["after_all"] = worker.logps(sequences, "base", None, None)
    found["engines"] = engines() - before
    return found


def engines() -> int:
    """How many of DeepSpeed's are held by anything in this process."""
    gc.collect()
    return sum(type(one).__name__ == "DeepSpeedEngine" for one in gc.get_objects())


if __name__ == "__main__":
    main()
