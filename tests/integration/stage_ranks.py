"""One rank of a training stage without Ray, for `test_stage_workers`.

    python -m tests.integration.stage_ranks RANK WORLD RENDEZVOUS JOB.json

JOB: {"kind", "config", "base": folder, "root": of the stage}; the rows lie in the stage's folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    rank, world, rendezvous, job_file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    os.environ |= {"DS_ACCELERATOR": "cpu", "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    # Accelerate asks for an address though the ranks have met already; nothing listens there.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    import torch.distributed as dist

    from rayalign.actors.stage_trainer import train_rank
    from rayalign.config.stages import StageConfig
    from rayalign.store.stage_dir import StageDir

    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    job: dict[str, Any] = json.loads(Path(job_file).read_text())
    stage, steps = StageDir(Path(job["root"])), []
    config = StageConfig.model_validate(job["config"])
    facts = train_rank(job["kind"], config, stage, Path(job["base"]), rank, steps.append)
    if rank == 0:
        stage.finish(metrics=facts, steps=steps)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
