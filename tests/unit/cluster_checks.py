"""What must hold for the files under cluster/; each check gives a list of problems, empty where all is well."""

from __future__ import annotations

import copy
import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|hf_[A-Za-z0-9]{20,}|(?<![A-Za-z0-9])[0-9a-f]{32,}(?![A-Za-z0-9])"
)
SECRET_KEY = re.compile(r"(auth_?token|secret|password|credentials|api_?key)$", re.IGNORECASE)
TOKEN_FILE = "~/.ray/auth_token"
ROLES = {"generator", "learner"}


def no_secrets(value: Any, at: str = "") -> Iterator[str]:
    """Plaintext tokens, keys and passwords, wherever they stand; a path to a file is none."""
    if isinstance(value, dict):
        if SECRET_KEY.search(str(value.get("name", ""))) and isinstance(value.get("value"), str):
            yield f"{at}: {value['name']} has a plaintext value"
        for key, item in value.items():
            if SECRET_KEY.search(str(key)) and isinstance(item, str) and not item.startswith(("~", "/")):
                yield f"{at}.{key}: a plaintext secret"
            yield from no_secrets(item, f"{at}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from no_secrets(item, f"{at}[{index}]")
    elif isinstance(value, str) and (SECRET.search(value) or re.search(r"RAY_AUTH_TOKEN=(?!\$)\S", value)):
        yield f"{at}: a plaintext secret"


def ray_up(config: dict[str, Any]) -> list[str]:
    """A `ray up` file: first what Ray itself checks, with its defaults filled in, then ours."""
    try:
        _validate_as_ray_does(config)
    except Exception as error:
        return [f"Ray refuses it: {type(error).__name__}: {str(error).splitlines()[0]}"]
    types, head = config["available_node_types"], config["head_node_type"]
    pools = {name: node for name, node in types.items() if name != head}
    problems = list(no_secrets(config))
    if types[head]["resources"].get("GPU", 0):
        problems.append("the head has a GPU")
    if types[head]["resources"].get("CPU", 0) < 2 or _is_spot(types[head]):
        problems.append("the head must have CPUs for the driver and Ray Data, on demand")
    problems += _pools({name: _up_pool(node) for name, node in pools.items()})
    if config["max_workers"] > sum(node["max_workers"] for node in pools.values()):
        problems.append("max_workers is more than all pools together")
    if TOKEN_FILE not in config.get("file_mounts", {}):
        problems.append("the token file is not on the machines")
    for kind in ("head_start_ray_commands", "worker_start_ray_commands"):
        for command in config[kind]:
            if "ray start" in command and "RAY_AUTH_MODE=token" not in command:
                problems.append(f"{kind}: no token authentication")
    if not any("[gpu]" in command for command in config["setup_commands"]):
        problems.append("rayalign is not installed with its GPU extra")
    return problems


def _validate_as_ray_does(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))


def _is_spot(node: dict[str, Any]) -> bool:
    settings = node["node_config"]
    aws = settings.get("InstanceMarketOptions", {}).get("MarketType")
    return aws == "spot" or settings.get("scheduling", {}).get("provisioningModel") == "SPOT"


def _up_pool(node: dict[str, Any]) -> dict[str, Any]:
    return {
        "least": node.get("min_workers", 0),
        "most": node.get("max_workers", math.inf),
        "gpus": node["resources"].get("GPU", 0),
        "labels": node.get("labels", {}),
        "spot": _is_spot(node),
    }


def _pools(pools: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Bounds, roles and markets of the pools: generators from none on spot machines, learners on demand."""
    roles = {pool["labels"].get("rayalign-role") for pool in pools.values()}
    if roles != ROLES:
        yield f"the pools' roles are {sorted(map(str, roles))}, not {sorted(ROLES)}"
    for name, pool in pools.items():
        role = pool["labels"].get("rayalign-role")
        if not 0 <= pool["least"] <= pool["most"] < math.inf:
            yield f"{name}: bounds {pool['least']}..{pool['most']}"
        if pool["least"]:
            yield f"{name}: does not begin at 0"
        if pool["gpus"] < 1:
            yield f"{name}: no GPU"
        if pool["spot"] != (role == "generator"):
            yield f"{name}: a {role} on {'spot' if pool['spot'] else 'on-demand'} machines"
        if pool["labels"].get("ray.io/market-type") != ("spot" if pool["spot"] else "on-demand"):
            yield f"{name}: its market-type label is wrong"


GROUP_KEYS = {"groupName", "replicas", "minReplicas", "maxReplicas", "labels", "rayStartParams", "template"}
CLUSTER_KEYS = {
    *("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions"),
    *("headGroupSpec", "workerGroupSpecs"),
}
AUTOSCALER_KEYS = {"version", "upscalingMode", "idleTimeoutSeconds", "resources", "env", "image"}
JOB_KEYS = {
    *("entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"),
    *("activeDeadlineSeconds", "submitterConfig", "rayClusterSpec"),
}


def ray_cluster(document: dict[str, Any]) -> list[str]:
    return [*_kind(document, "RayCluster"), *cluster_spec(document.get("spec", {})), *no_secrets(document)]


def ray_job(document: dict[str, Any], root: Path) -> list[str]:
    spec = document.get("spec", {})
    problems = [*_kind(document, "RayJob"), *_unknown(spec, JOB_KEYS, "spec"), *no_secrets(document)]
    problems += cluster_spec(spec.get("rayClusterSpec", {}))
    problems += _entrypoint(spec.get("entrypoint", ""), root)
    if spec.get("submissionMode") not in ("K8sJobMode", "HTTPMode", "SidecarMode"):
        problems.append(f"submissionMode {spec.get('submissionMode')!r}")
    if type(spec.get("backoffLimit")) is not int or spec["backoffLimit"] < 0:
        problems.append("backoffLimit is not a count")
    if spec.get("shutdownAfterJobFinishes") is not True:
        problems.append("the cluster would stay, and cost, after the run")
    return problems


def _kind(document: dict[str, Any], kind: str) -> Iterator[str]:
    found = document.get("apiVersion"), document.get("kind")
    if found != ("ray.io/v1", kind):
        yield f"is a {found}, not a ray.io/v1 {kind}"
    yield from _unknown(document, {"apiVersion", "kind", "metadata", "spec"}, "document")
    name = document.get("metadata", {}).get("name", "")
    # KubeRay makes service names of at most 63 characters from it.
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", name):
        yield f"name {name!r}"


def _unknown(mapping: dict[str, Any], known: set[str], at: str) -> Iterator[str]:
    yield from (f"{at}: unknown key {key!r}" for key in mapping if key not in known)


def cluster_spec(spec: dict[str, Any]) -> Iterator[str]:
    """The part that RayCluster and RayJob share."""
    import ray

    yield from _unknown(spec, CLUSTER_KEYS, "cluster")
    if spec.get("rayVersion") != ray.__version__:
        yield f"rayVersion {spec.get('rayVersion')!r}, and rayalign uses {ray.__version__}"
    if spec.get("authOptions") != {"mode": "token"}:
        yield "no token authentication"
    options = spec.get("autoscalerOptions", {})
    yield from _unknown(options, AUTOSCALER_KEYS, "autoscalerOptions")
    if spec.get("enableInTreeAutoscaling") is not True or options.get("version") != "v2":
        yield "no autoscaler v2"
    if "headGroupSpec" not in spec:
        yield "no headGroupSpec"
        return
    yield from _head(spec["headGroupSpec"])
    groups = {group.get("groupName", ""): group for group in spec.get("workerGroupSpecs", [])}
    pools = {}
    for name, group in groups.items():
        yield from _worker_group(name, group)
        pools[name] = _group_pool(group)
    yield from _pools(pools)
    images = {_container(group)["image"] for group in (spec["headGroupSpec"], *groups.values())}
    if len(images) != 1:
        yield f"more than one image: {sorted(images)}"


def _head(head: dict[str, Any]) -> Iterator[str]:
    yield from _unknown(head, {"labels", "rayStartParams", "template"}, "head")
    yield from _group("head", head, "ray-head")
    if _gpus(head) or head["rayStartParams"].get("num-gpus", "0") != "0":
        yield "the head has a GPU"
    if not 2 <= int(head["rayStartParams"].get("num-cpus", 0)) < int(_container(head)["resources"]["limits"]["cpu"]):
        yield "the head must offer CPUs for Ray Data, and keep some for the driver"


def _worker_group(name: str, group: dict[str, Any]) -> Iterator[str]:
    yield from _unknown(group, GROUP_KEYS, name)
    yield from _group(name, group, "ray-worker")
    counts = [group.get(key) for key in ("minReplicas", "replicas", "maxReplicas")]
    if not all(type(count) is int for count in counts) or counts != sorted(counts):
        yield f"{name}: minReplicas, replicas, maxReplicas are {counts}"


def _group(name: str, group: dict[str, Any], container: str) -> Iterator[str]:
    found = _container(group)
    if found["name"] != container:
        yield f"{name}: its first container is {found['name']!r}, not {container!r}"
    for key, value in group["rayStartParams"].items():
        if not isinstance(value, str):
            yield f"{name}: rayStartParams.{key} is not text"
    if group["template"]["spec"].get("restartPolicy") != "Never":
        yield f"{name}: restartPolicy must be Never for autoscaler v2"
    if found["resources"].get("requests") != found["resources"].get("limits"):
        yield f"{name}: requests differ from limits"


def _container(group: dict[str, Any]) -> dict[str, Any]:
    return group["template"]["spec"]["containers"][0]


def _gpus(group: dict[str, Any]) -> int:
    return int(_container(group)["resources"]["limits"].get("nvidia.com/gpu", 0))


def _group_pool(group: dict[str, Any]) -> dict[str, Any]:
    selector = group["template"]["spec"].get("nodeSelector", {})
    return {
        "least": group.get("minReplicas", 0),
        "most": group.get("maxReplicas", math.inf),
        "gpus": _gpus(group),
        "labels": group.get("labels", {}),
        "spot": any("spot" in f"{key}{value}".lower() for key, value in selector.items()),
    }


def _entrypoint(entrypoint: str, root: Path) -> Iterator[str]:
    """`rayalign run CONFIG --set ...`: a config that is there, with settings that it takes, on an object store."""
    from rayalign.config.file import load_config
    from rayalign.errors import ConfigError

    words = shlex.split(entrypoint)
    if words[:2] != ["rayalign", "run"] or len(words) < 3:
        yield f"the entrypoint is not `rayalign run CONFIG`: {entrypoint!r}"
        return
    config, rest = root / words[2], words[3:]
    if config.parent != root / "configs" or not config.is_file():
        yield f"the entrypoint's config {words[2]!r} is not in configs/"
        return
    if len(rest) % 2 or any(word != "--set" for word in rest[::2]):
        yield f"the entrypoint's options are not all --set: {rest}"
        return
    try:
        loaded = load_config(config, rest[1::2])
    except ConfigError as error:
        yield f"the entrypoint's config: {error}"
        return
    if not loaded.run.dir.startswith(("s3://", "gs://")):
        yield "the run folder is on a pod's disk, which goes with the pod"
