"""Pushing a folder to a model hub that speaks the Hugging Face protocol."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rayalign.errors import ExportError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError


def push(folder: Path, hub_id: str, message: str, *, update: bool, public: bool, uploaded: Path | None = None) -> str:
    """Make the repository, upload the folder as a commit, and return the repository's address.

    The endpoint is `HF_ENDPOINT`; the token is `HF_TOKEN` or that of a login of the hub's client, and is never shown.

    Args:
        update: add a commit to a repository that exists.
        uploaded: what is uploaded, where that is not the folder itself.
        public: whether a repository that is made is public.

    Raises:
        ExportError: the hub cannot be reached, refuses, or has such a repository already.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    stays = f"the export stays in {folder}; "
    try:
        repo = api.create_repo(hub_id, private=not public, exist_ok=update)
        api.upload_folder(repo_id=repo.repo_id, folder_path=uploaded or folder, commit_message=message)
    except HFValidationError as error:
        raise ExportError(f"--push {hub_id}: not a hub id", _shown(error), stays + "give NAME/REPOSITORY") from None
    except HfHubHTTPError as error:
        raise _refused(error, hub_id, stays) from None
    except Exception as error:
        if _is_network(error):
            raise ExportError(
                f"--push {hub_id}: cannot reach {api.endpoint}",
                _shown(error),
                stays + "check the network, HF_HUB_OFFLINE and HF_ENDPOINT, then run the command again",
            ) from None
        if not isinstance(error, ValueError | RuntimeError):
            raise
        # The client's own words for a card or an upload that the hub does not take.
        raise ExportError(
            f"--push {hub_id}: the upload failed",
            _shown(error.__cause__ or error),
            stays + "run the same command again, with --update",
        ) from None
    return str(repo)


def _refused(error: HfHubHTTPError, hub_id: str, stays: str) -> ExportError:
    status = error.response.status_code
    if status == 409:
        return ExportError(
            f"--push {hub_id}: there is such a repository already",
            "its files would be overwritten",
            stays + "add --update to push a new commit to it, or give another id",
        )
    if status in (401, 403):
        return ExportError(
            f"--push {hub_id}: refused ({status})",
            error.server_message or _shown(error),
            stays + "set HF_TOKEN to a token that may write there, or log in with the hub's own client",
        )
    return ExportError(
        f"--push {hub_id}: the hub answers {status}",
        error.server_message or _shown(error),
        stays + "run the same command again later, with --update",
    )


def _is_network(error: Exception) -> bool:
    """Also where the client's HTTP library, which has changed its name before, has a class of its own."""
    return isinstance(error, ConnectionError) or "TransportError" in [kind.__name__ for kind in type(error).__mro__]


def _shown(error: BaseException) -> str:
    """The error's first line, without the token."""
    from huggingface_hub import get_token

    text = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
    return text.replace(token, "***") if (token := get_token()) else text
