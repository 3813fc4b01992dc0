"""Send a run to a Ray cluster as a job, follow its log, and end with its exit code.

A submission is named after the run and the attempt (`quickstart-1`, `quickstart-2`, ...). Submitting again is safe at
any time: while an attempt is alive it is followed, else the next attempt resumes the run from its run folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shlex
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rayalign.commands.job_server import connect, first_line, only_address
from rayalign.config.file import resolved_yaml
from rayalign.config.run import RunConfig
from rayalign.errors import EXIT_FAILURE, EXIT_OK, EXIT_RESUMABLE, ClusterError, ConfigError, InterruptedRunError
from rayalign.records import JsonObject
from rayalign.stopping import call, sleep
from rayalign.store.folder import Folder

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

CACHES = (".git", ".venv", "venv", "__pycache__", "node_modules", ".*_cache", ".hypothesis", "*.egg-info")
SECRET_PLACES = (".env", ".env.*", ".netrc", ".ssh", ".aws", ".azure", ".kube", ".gnupg", ".ray", ".config")
SECRET_FILES = ("*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ed25519*", "credentials*", "secrets*", "*.token")
SECRETS = (*SECRET_PLACES, *SECRET_FILES, "auth_token")
"""Patterns as in .gitignore; what they match stays on this machine, as does what .gitignore and .rayignore name."""
RECONNECT_S = 300
AGENT_S = 60
NO_AGENT = "No available agent"
POLL_S = 1.0
Say = Callable[[str], None]


def submit(
    config: RunConfig, path: Path, overrides: Sequence[str], *, address: str, wait: bool, fork: str | None, say: Say
) -> int:
    """Submit a config as the next attempt of its run, or join the attempt that is under way.

    Args:
        path: the config file, below the working directory, which travels to the cluster.
        overrides: the `--set` values, passed on.
        address: the cluster's job server, `http://HEAD:8265`.
        wait: follow the log until the end.

    Returns:
        The run's own exit code; 0 without `wait`.

    Raises:
        ClusterError: the cluster cannot be reached, refuses the token, or runs another Ray.
        ConfigError: the config lies outside the working directory, or this run goes on there with another config.
    """
    # Refuses a URI with credentials before it becomes part of a job's command line.
    Folder(config.run.dir)
    command = _command(path, overrides, fork)
    name = fork or config.run.name
    # Ray tells at length what it packs.
    logging.getLogger("ray").setLevel(logging.ERROR)
    with only_address(address):
        client = call(lambda: connect(address))
        identity = hashlib.sha256(f"{resolved_yaml(config)}{fork}".encode()).hexdigest()
        job = call(lambda: _join_or_submit(client, name, identity, command, config, say))
        if not wait:
            say(f"not waiting; the same command without --no-wait follows it: {job}")
            return EXIT_OK
        try:
            return _follow(client, job, say)
        except InterruptedRunError:
            raise InterruptedRunError(
                f"stopped following {job}",
                "the run goes on on the cluster",
                f"the same command follows it again; `ray job stop {job}` stops it",
            ) from None


def _command(path: Path, overrides: Sequence[str], fork: str | None) -> str:
    here = Path.cwd()
    try:
        relative = path.resolve().relative_to(here.resolve())
    except ValueError:
        raise ConfigError(
            f"{path} lies outside the working directory {here}",
            "the working directory is what travels to the cluster",
            "change to the folder that holds the config, its prompts and its scorers, and submit from there",
        ) from None
    words = ["python", "-m", "rayalign", "run", relative.as_posix()]
    for override in overrides:
        words += ["--set", override]
    return shlex.join([*words, *(["--fork", fork] if fork else [])])


def _join_or_submit(
    client: JobSubmissionClient, name: str, identity: str, command: str, config: RunConfig, say: Say
) -> str:
    attempts = _attempts(client, name)
    if attempts and not attempts[-1].status.is_terminal():
        job = attempts[-1]
        if (job.metadata or {}).get("rayalign_config") != identity:
            raise ConfigError(
                f"run {name!r} is under way on this cluster as {job.submission_id} with another config",
                "two configs would share one run folder",
                f"wait for it, stop it with `ray job stop {job.submission_id}`, or set another run.name",
            )
        say(f"{job.submission_id} is {job.status.value.lower()}: following it")
        return str(job.submission_id)
    number = 1 + int((attempts[-1].metadata or {})["rayalign_attempt"]) if attempts else 1
    job_id = f"{name}-{number}"
    say(f"submitting {job_id} from {Path.cwd()}" + (f", {_ended(attempts[-1])}" if attempts else ""))
    metadata = {"rayalign_run": name, "rayalign_attempt": str(number), "rayalign_config": identity}
    job = {"entrypoint": command, "submission_id": job_id, "metadata": metadata, "runtime_env": _runtime_env(config)}
    try:
        _submit(client, job)
    except (RuntimeError, ValueError) as error:
        if any(job.submission_id == job_id for job in _attempts(client, name)):
            say(f"{job_id} was submitted by another process a moment ago: following it")
            return job_id
        raise ClusterError(
            f"the cluster did not take the job: {first_line(error)}",
            f"the working directory {Path.cwd()} was packed for it, or the cluster refused the request",
            "large files belong into .rayignore or onto shared storage; see also the cluster's dashboard",
        ) from error
    return job_id


def _submit(client: JobSubmissionClient, job: JsonObject) -> None:
    """Submit; a head that came up a moment ago has no agent yet that could take the job."""
    deadline = time.monotonic() + AGENT_S
    while True:
        try:
            client.submit_job(**job)
            return
        except RuntimeError as error:
            if NO_AGENT not in str(error):
                raise
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the cluster's head has had no agent for jobs for {AGENT_S} s",
                    "it did not start, often because another Ray on that machine holds its port",
                    "see dashboard_agent.log on the head, or start it with --dashboard-agent-listen-port=PORT",
                ) from error
        sleep(POLL_S)


def _runtime_env(config: RunConfig) -> dict[str, object]:
    folder = config.run.dir
    own = [] if "://" in folder or Path(folder).is_absolute() else [f"/{Path(folder).as_posix()}"]
    return {"working_dir": str(Path.cwd()), "excludes": [*CACHES, *SECRETS, *own, "/runs"]}


def _attempts(client: JobSubmissionClient, name: str) -> list[JobDetails]:
    """The run's attempts on this cluster, oldest first."""
    jobs = [job for job in client.list_jobs() if (job.metadata or {}).get("rayalign_run") == name]
    return sorted(jobs, key=lambda job: int((job.metadata or {})["rayalign_attempt"]))


def _ended(job: JobDetails) -> str:
    return f"{job.submission_id} ended as {job.status.value.lower()}: resuming"


def _follow(client: JobSubmissionClient, job: str, say: Say) -> int:
    """Print the job's log as it grows; when it ends, give the run's exit code."""
    shown = 0
    lost_since: float | None = None
    while True:
        try:
            shown = call(partial(asyncio.run, _tail(client, job, shown, say)))
            info = client.get_job_info(job)
            lost_since = None
        except InterruptedRunError:
            raise
        except (RuntimeError, OSError) as error:
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > RECONNECT_S:
                raise ClusterError(
                    f"lost the cluster for {RECONNECT_S} s while following {job}: {first_line(error)}",
                    "the run may go on there, or its head node is gone",
                    "give the same command again: it follows the job if it lives, else it resumes the run",
                ) from error
            info = None
        if info is not None and info.status.is_terminal():
            return _exit_code(info, say)
        sleep(POLL_S)


async def _tail(client: JobSubmissionClient, job: str, skip: int, say: Say) -> int:
    """Print what comes after the first `skip` characters of the log; returns how many were seen in all."""
    import aiohttp

    position = 0
    try:
        async for chunk in client.tail_job_logs(job):
            new = chunk[max(0, skip - position) :]
            position += len(chunk)
            if new:
                say(new.rstrip("\n"))
    except (RuntimeError, OSError, aiohttp.ClientError) as error:
        # What was read counts as progress; only a connection that gives nothing is a lost one.
        if position <= skip:
            raise RuntimeError(f"the log ended: {first_line(error)}") from error
    return max(position, skip)


def _exit_code(info: JobDetails, say: Say) -> int:
    status, code = info.status.value, info.driver_exit_code
    if status == "SUCCEEDED":
        return EXIT_OK
    if status == "STOPPED":
        say(f"{info.submission_id} was stopped; the same command resumes the run")
        return EXIT_RESUMABLE
    if code is None:
        say(f"{info.submission_id} failed: {info.message}")
        return EXIT_FAILURE
    return code
