"""Every file under cluster/ holds what it must, and the checks find what is broken."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit import cluster_checks, launch_checks

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
UP = ("aws.yaml", "gcp.yaml")
SKY = "skypilot.yaml"
KUBERAY = ("kuberay/raycluster.yaml", "kuberay/rayjob.yaml")
SCRIPTS = ("local/lib.sh", "local/up.sh", "local/down.sh", "node.sh", "slurm.sbatch")


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / name).read_text())


def problems(name: str, document: dict[str, Any]) -> list[str]:
    if name in UP:
        return cluster_checks.ray_up(document)
    if name == SKY:
        return launch_checks.sky(document, ROOT)
    if name == "kuberay/rayjob.yaml":
        return cluster_checks.ray_job(document, ROOT)
    return cluster_checks.ray_cluster(document)


def test_every_yaml_is_checked() -> None:
    assert {path.relative_to(CLUSTER).as_posix() for path in CLUSTER.rglob("*.yaml")} == {*UP, *KUBERAY, SKY}


@pytest.mark.parametrize("name", [*UP, *KUBERAY, SKY])
def test_file_is_sound(name: str) -> None:
    assert problems(name, load(name)) == []


def test_rayjob_has_the_cluster_of_raycluster() -> None:
    assert load("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"] == load("kuberay/raycluster.yaml")["spec"]


@pytest.mark.parametrize("name", [*UP, *KUBERAY, SKY, *SCRIPTS, "README.md", "Dockerfile"])
def test_file_fits_a_reader(name: str) -> None:
    lines = (CLUSTER / name).read_text().splitlines()
    assert len(lines) <= 300
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_parses(name: str) -> None:
    done = subprocess.run(["bash", "-n", CLUSTER / name], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("name", ["up", "down"])
def test_script_says_how_it_is_used(name: str) -> None:
    script = CLUSTER / "local" / f"{name}.sh"
    done = subprocess.run([script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert f"cluster/local/{name}.sh" in done.stdout and "set -e" not in done.stdout
    assert subprocess.run([script, "--nonsense"], capture_output=True).returncode == 2


def put(value: Any, *path: str | int) -> Callable[[dict[str, Any]], None]:
    """A change that sets the item at `path`; `None` removes it."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        if value is None:
            del document[path[-1]]
        else:
            document[path[-1]] = value

    return change


TYPES = "available_node_types"
BROKEN_UP = {
    "no such head type": (put("boss", "head_node_type"), "head_node_type"),
    "head type removed": (put(None, TYPES, "head"), "head_node_type"),
    "unknown key": (put(3, "max_wokers"), "max_wokers"),
    "max_workers as text": (put("6", "max_workers"), "'6' is not of type 'integer'"),
    "node type without resources": (put(None, TYPES, "learner", "resources"), "'resources' is a required property"),
    "label of wrong type": (put(7, TYPES, "learner", "labels", "rayalign-role"), "7 is not of type 'string'"),
    "max below min": (put(-1, TYPES, "generator", "max_workers"), "bounds 0..-1"),
    "generators never end": (put(1, TYPES, "generator", "min_workers"), "does not begin at 0"),
    "GPU on the head": (put(1, TYPES, "head", "resources", "GPU"), "the head has a GPU"),
    "head without CPUs": (put(0, TYPES, "head", "resources", "CPU"), "must have CPUs"),
    "pool without GPU": (put({"CPU": 8}, TYPES, "learner", "resources"), "no GPU"),
    "roles not told apart": (put("learner", TYPES, "generator", "labels", "rayalign-role"), "roles are"),
    "token not mounted": (put({}, "file_mounts"), "token file"),
    "no token mode": (put(["ray start --head"], "head_start_ray_commands"), "no token authentication"),
    "plaintext token": (put(["export RAY_AUTH_TOKEN=abc; ray start"], "setup_commands"), "a plaintext secret"),
    "cloud key": (put("AKIA" + "A" * 16, "provider", "region"), "a plaintext secret"),
    "no GPU extra": (put(["pip install rayalign"], "setup_commands"), "GPU extra"),
}


@pytest.mark.parametrize("name", UP)
@pytest.mark.parametrize("case", BROKEN_UP)
def test_broken_ray_up_file_is_found(name: str, case: str) -> None:
    change, expected = BROKEN_UP[case]
    document = load(name)
    change(document)
    assert expected in "\n".join(problems(name, document))


def test_generators_on_demand_are_found() -> None:
    aws, gcp = load("aws.yaml"), load("gcp.yaml")
    del aws[TYPES]["generator"]["node_config"]["InstanceMarketOptions"]
    gcp[TYPES]["generator"]["node_config"]["scheduling"] = {"onHostMaintenance": "TERMINATE"}
    for name, document in (("aws.yaml", aws), ("gcp.yaml", gcp)):
        assert "a generator on on-demand machines" in "\n".join(problems(name, document))


HEAD = ("headGroupSpec", "template", "spec", "containers", 0)
GROUP = ("workerGroupSpecs", 0)
WORKER = (*GROUP, "template", "spec", "containers", 0)
TOKEN = [{"name": "RAY_AUTH_TOKEN", "value": "abc"}]
BROKEN_CLUSTER = {
    "no head": (put(None, "headGroupSpec"), "no headGroupSpec"),
    "unknown key": (put(True, "enableAutoscaling"), "unknown key 'enableAutoscaling'"),
    "unknown key of a group": (put(1, *GROUP, "maxReplica"), "unknown key 'maxReplica'"),
    "other Ray": (put("2.9.0", "rayVersion"), "rayVersion '2.9.0'"),
    "no token mode": (put(None, "authOptions"), "no token authentication"),
    "no autoscaler": (put(False, "enableInTreeAutoscaling"), "no autoscaler v2"),
    "head container's name": (put("head", *HEAD, "name"), "not 'ray-head'"),
    "worker container's name": (put("ray", *WORKER, "name"), "not 'ray-worker'"),
    "start parameter as number": (put(6, "headGroupSpec", "rayStartParams", "num-cpus"), "num-cpus is not text"),
    "head offers all CPUs": (put("8", "headGroupSpec", "rayStartParams", "num-cpus"), "keep some for the driver"),
    "max below min": (put(-1, *GROUP, "maxReplicas"), "are [0, 0, -1]"),
    "replicas as text": (put("0", *GROUP, "replicas"), "are [0, '0', 4]"),
    "GPU only in limits": (put(None, *WORKER, "resources", "requests", "nvidia.com/gpu"), "requests differ"),
    "GPU on the head": (put("1", *HEAD, "resources", "limits", "nvidia.com/gpu"), "the head has a GPU"),
    "generators on demand": (put(None, *GROUP, "template", "spec", "nodeSelector"), "on on-demand machines"),
    "pods start again": (put("Always", *GROUP, "template", "spec", "restartPolicy"), "restartPolicy"),
    "two images": (put("rayproject/ray:2.60.0", *WORKER, "image"), "more than one image"),
    "plaintext token": (put(TOKEN, *HEAD, "env"), "RAY_AUTH_TOKEN has a plaintext value"),
}


@pytest.mark.parametrize("name", KUBERAY)
@pytest.mark.parametrize("case", BROKEN_CLUSTER)
def test_broken_cluster_spec_is_found(name: str, case: str) -> None:
    change, expected = BROKEN_CLUSTER[case]
    document = copy.deepcopy(load(name))
    spec = document["spec"]
    change(spec.get("rayClusterSpec", spec))
    assert expected in "\n".join(problems(name, document))


BROKEN_JOB = {
    "another kind": (put("RayCluster", "kind"), "not a ray.io/v1 RayJob"),
    "old API": (put("ray.io/v1alpha1", "apiVersion"), "not a ray.io/v1 RayJob"),
    "name": (put("Rayalign_Run", "metadata", "name"), "name 'Rayalign_Run'"),
    "unknown key": (put(2, "spec", "backOffLimit"), "unknown key 'backOffLimit'"),
    "backoffLimit as text": (put("2", "spec", "backoffLimit"), "backoffLimit is not a count"),
    "cluster stays": (put(False, "spec", "shutdownAfterJobFinishes"), "would stay"),
    "submission mode": (put("JobMode", "spec", "submissionMode"), "submissionMode"),
    "another command": (put("python train.py", "spec", "entrypoint"), "not `rayalign run CONFIG`"),
    "no such config": (put("rayalign run configs/no.yaml", "spec", "entrypoint"), "not in configs/"),
    "run on a pod's disk": (put("rayalign run configs/quickstart.yaml", "spec", "entrypoint"), "a pod's disk"),
    "wrong setting": (
        put("rayalign run configs/quickstart.yaml --set run.round=2", "spec", "entrypoint"), "run.round"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_JOB)
def test_broken_job_is_found(case: str) -> None:
    change, expected = BROKEN_JOB[case]
    document = load("kuberay/rayjob.yaml")
    change(document)
    assert expected in "\n".join(problems("kuberay/rayjob.yaml", document))
