"""The cluster's job server: reached, with its token and of a version that fits, or said why not."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rayalign.errors import ClusterError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

CONNECT_TIMEOUT_S = 10
_CLIENT_ADDRESS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


@contextmanager
def only_address(address: str) -> Iterator[None]:
    """Ray lets RAY_ADDRESS win over an address that is given; the user's --address is what counts here."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(
            f"--address {address!r}",
            "the job server is reached over HTTP",
            "give http://HEAD:8265, the address of the cluster's dashboard",
        )
    saved = {name: os.environ.pop(name) for name in _CLIENT_ADDRESS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


def connect(address: str) -> JobSubmissionClient:
    """A client of the job server at `address`, once it is known to answer, to take the token and to fit.

    Raises:
        ClusterError: it does not.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    remedy = "check the address (the head's dashboard, usually port 8265) and that it can be reached from here"
    try:
        # Ray's own client waits without a limit.
        socket.create_connection((str(parts.hostname), port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        why = f"nothing answers at {parts.hostname}:{port}: {error}"
        raise ClusterError(f"cannot reach a Ray cluster at {address}", why, remedy) from None
    try:
        client = JobSubmissionClient(address)
    except AuthenticationError:
        raise ClusterError(
            f"{address} refused the token",
            f"it wants another token than the one here ({_token()})",
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE with the cluster's token",
        ) from None
    except Exception as error:
        why = f"what answers there is no Ray job server: {first_line(error)}"
        raise ClusterError(f"cannot talk to Ray at {address}", why, remedy) from error
    _check_versions(client, address)
    return client


def _check_versions(client: JobSubmissionClient, address: str) -> None:
    """Refuse a cluster with another Ray or another minor version of Python."""
    import ray

    metadata = client._do_request("GET", "/api/v0/cluster_metadata").json().get("data", {})
    cluster = {"Ray": metadata.get("rayVersion"), "Python": metadata.get("pythonVersion")}
    here = {"Ray": ray.__version__, "Python": platform.python_version()}
    differ = [
        name
        for name, version in here.items()
        if cluster[name] is not None and _minor(name, cluster[name]) != _minor(name, version)
    ]
    if differ:
        told = " and ".join(f"{name} {cluster[name]}, here is {here[name]}" for name in differ)
        raise ClusterError(
            f"the cluster at {address} runs {told}",
            "only the same versions on both sides are sure to understand each other",
            "install the cluster's versions here, or submit to a cluster with these",
        )


def _minor(name: str, version: str) -> str:
    """What must be equal: all of Ray's version, Python's without the patch."""
    return version.rpartition(".")[0] if name == "Python" else version


def _token() -> str:
    """Where Ray looked for a token, never the token."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return "none: RAY_AUTH_MODE is not set to token"
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        if os.environ.get(name):
            return f"from {name}"
    return "from ~/.ray/auth_token"


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
