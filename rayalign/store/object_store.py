"""S3 and Google Cloud Storage: the file system behind a URI, its time limits, its errors in words."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from rayalign.errors import RunFolderError, StoreError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem, S3FileSystem

CONNECT_TIMEOUT_S = 3
REQUEST_TIMEOUT_S = 10
ATTEMPTS = 3
GCS_LIMIT_S = 15
"""Bounds on a store that does not answer: the worst case of one call is half a minute."""
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
SECRET_OPTION = re.compile(r"key|secret|token|password|credential|signature|^sig$", re.IGNORECASE)
NO_BUCKET = re.compile("NO_SUCH_BUCKET|NoSuchBucket|[Bb]ucket.*(not found|does not exist)")
NOT_ALLOWED = re.compile(
    "ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|InvalidAccessKey|SIGNATURE|SignatureDoes|TOKEN|[Cc]redential|"
    "[Ff]orbidden|[Pp]ermission"
)
NOT_REACHED = re.compile(
    "NETWORK_CONNECTION|curlCode|endpoint URL|[Tt]imed? ?out|[Cc]ould not connect|UNAVAILABLE|SLOW_DOWN|SlowDown"
)
S3_OPTIONS = {"region", "scheme", "endpoint_override", "tls_ca_file_path"}


def is_uri(text: str) -> bool:
    return URI.match(text) is not None


def refuse_credentials(uri: str) -> None:
    """A secret in a URI would stand in config.yaml, in messages and in the process list.

    Raises:
        RunFolderError: `uri` holds one; the message does not.
    """
    parts = urlsplit(uri)
    user, at, _ = parts.netloc.rpartition("@")
    secret = bool(at) and (parts.scheme == "s3" or ":" in user)
    if secret or any(SECRET_OPTION.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise RunFolderError(
            f"run folder {parts.scheme}://***: the URI holds credentials",
            "they would be stored in config.yaml and shown in messages",
            "take them out; give them by environment variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or let the "
            "instance role do it",
        )


@cache
def open_filesystem(bucket: str, query: str) -> tuple[FileSystem, str]:
    """The file system of a bucket and the bucket's path in it; one per process."""
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    scheme = bucket.partition("://")[0]
    if scheme == "s3":
        return _s3(bucket.partition("://")[2], dict(parse_qsl(query))), bucket.partition("://")[2]
    options = dict(parse_qsl(query))
    if scheme in ("gs", "gcs"):
        options.setdefault("retry_limit_seconds", str(GCS_LIMIT_S))
    uri = f"{bucket}?{urlencode(options)}" if options else bucket
    try:
        filesystem, path = FileSystem.from_uri(uri)
    except ArrowInvalid as error:
        if "Unrecognized filesystem type" not in str(error):
            raise
        import fsspec

        plain, path = fsspec.core.url_to_fs(bucket, **options)
        filesystem = PyFileSystem(FSSpecHandler(plain))
    return filesystem, path.rstrip("/")


def _s3(bucket: str, options: dict[str, str]) -> S3FileSystem:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    if unknown := sorted(options.keys() - S3_OPTIONS):
        raise RunFolderError(
            f"run folder s3://{bucket}: option {unknown[0]!r}",
            "no such option of an S3 URI",
            f"use one of {', '.join(sorted(S3_OPTIONS))}",
        )
    options = s3_endpoint(options)
    # Without any of these the client asks for the bucket in us-east-1, wherever it is.
    told = {"endpoint_override", "region"} & options.keys()
    if not (told or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        options["region"] = resolve_s3_region(bucket)
    return S3FileSystem(
        **options,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def s3_endpoint(options: dict[str, str]) -> dict[str, str]:
    """The options of an S3 URI, the endpoint without its scheme, and that of the environment where they name none."""
    # pyarrow reads neither variable when the file system is made with timeouts.
    fallback = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, endpoint = options.get("endpoint_override", fallback).rpartition("://")
    rest = {name: value for name, value in options.items() if name != "endpoint_override"}
    if endpoint:
        rest |= {"endpoint_override": endpoint.rstrip("/"), **({"scheme": scheme} if scheme else {})}
    return rest


def explain(location: str, error: Exception) -> RunFolderError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    found = f"run folder {location}: {text}"
    if re.search(NO_BUCKET, text):
        return RunFolderError(found, "there is no such bucket", "make the bucket, or set run.dir to one that exists")
    if re.search(NOT_ALLOWED, text):
        return RunFolderError(
            found,
            "the store knows no credentials of this process, or they do not allow it",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or use the instance role), and allow "
            "listing, reading, writing and deleting below run.dir, on every node",
        )
    if re.search(NOT_REACHED, text):
        return StoreError(
            found,
            "the store cannot be reached, or does not answer",
            "check endpoint_override or AWS_ENDPOINT_URL and the network, then run the same command again",
        )
    if isinstance(error, OSError):
        return StoreError(found, "the store refused or failed", "see the message, then run the same command again")
    return RunFolderError(
        found,
        "no file system understands it",
        "set run.dir to a local folder, s3://bucket/prefix "
        "or gs://bucket/prefix; other stores need their fsspec package",
    )
