"""Puts that S3 makes only where nobody else has written meanwhile: `If-None-Match` and `If-Match`.

`pyarrow.fs` knows neither, so these go through boto3 (`pip install rayalign[s3]`). Google's and other stores have the
like under other names; there, and where boto3 is missing or the store ignores conditions, callers do without.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from rayalign.store.object_store import ATTEMPTS, CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S, explain, s3_endpoint

if TYPE_CHECKING:
    from rayalign.store.folder import Folder

Tag = str
"""What the store calls the content of an object."""
REFUSED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
MISSING = {"NoSuchKey", "404"}
S3 = re.compile(r"s3://([^/?]+)/([^?]+)(?:\?(.*))?")


class Conditional:
    """One object of an S3 bucket.

    Raises:
        NotImplementedError: from each method that puts: the store knows no conditions.
        RunFolderError: from each method: the store cannot be used.
    """

    def __init__(self, client: Any, bucket: str, key: str, location: str) -> None:
        self._client, self._where, self._location = client, {"Bucket": bucket, "Key": key}, location

    def read(self) -> tuple[bytes, Tag] | None:
        """The object and its tag; None where there is none."""
        found = self._ask("get_object", MISSING)
        return None if found is None else (found["Body"].read(), found["ETag"])

    def tag(self) -> Tag | None:
        """The tag of the object; None where there is none."""
        found = self._ask("head_object", MISSING)
        return None if found is None else found["ETag"]

    def put(self, content: bytes | IO[bytes], over: Tag | None) -> Tag | None:
        """Write the object where it still is what it was; None where it is not.

        Args:
            over: the tag that it has; null where there is no object yet.
        """
        condition = {"IfNoneMatch": "*"} if over is None else {"IfMatch": over}
        if not isinstance(content, bytes):
            content.seek(0)
        done = self._ask("put_object", REFUSED | MISSING, Body=content, **condition)
        return done["ETag"] if done is not None else self._own(content)

    def refuses(self, content: bytes) -> bool:
        """Whether the store heeds conditions: refuses to put this object, which is there with this content, as new."""
        return self._ask("put_object", REFUSED, Body=content, IfNoneMatch="*") is None

    def delete(self, tag: Tag) -> None:
        """Remove the object if it still has this tag."""
        self._ask("delete_object", REFUSED | MISSING, IfMatch=tag)

    def _own(self, content: bytes | IO[bytes]) -> Tag | None:
        """The tag of an object that is what was to be put: where the answer to a put is lost, the client's next try is
        refused."""
        found = self.read()
        if found is None:
            return None
        if not isinstance(content, bytes):
            content.seek(0)
            content = content.read()
        return found[1] if content == found[0] else None

    def _ask(self, what: str, expected: set[str], **fields: Any) -> Any:
        """What the store says; None where that is one of the `expected` errors."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, what)(**self._where, **fields)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code in expected:
                return None
            if code == "NotImplemented":
                raise NotImplementedError(what) from error
            raise explain(self._location, error) from error
        except BotoCoreError as error:
            raise explain(self._location, error) from error


def conditional(file: Folder) -> Conditional | None:
    """The object where a file lies; None where it is not on S3, or boto3 is not there."""
    match = S3.fullmatch(str(file))
    if match is None or find_spec("boto3") is None:
        return None
    bucket, key, query = match.groups()
    return Conditional(_client(query or ""), bucket, key, str(file))


@cache
def _client(query: str) -> Any:
    """As `open_filesystem` makes pyarrow's."""
    import boto3
    from botocore.config import Config

    options = s3_endpoint(dict(parse_qsl(query)))
    settings = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=REQUEST_TIMEOUT_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        # Other stores than Amazon's know no newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if "endpoint_override" in options else None,
    )
    endpoint = options.get("endpoint_override")
    return boto3.client(
        "s3",
        region_name=options.get("region"),
        endpoint_url=f"{options.get('scheme', 'https')}://{endpoint}" if endpoint else None,
        verify=options.get("tls_ca_file_path"),
        config=settings,
    )
