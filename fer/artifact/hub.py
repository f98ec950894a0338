"""Models on the Hugging Face Hub: `hf://owner/name/file` is a file in the Hub's own cache.

`huggingface_hub` does the work, so its variables count: HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and others.
"""

import functools
import hashlib
import logging
import re
import sys
from pathlib import Path

from fer.errors import ArtifactError
from fer.files import expand

DEFAULTS = ("model.onnx", "model.ts")
"""The files that a link without a file may mean, in this order."""
_LINK = re.compile(r"hf:/{1,2}([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?")
_log = logging.getLogger(__name__)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local(model: str | Path, defaults: tuple[str, ...] = DEFAULTS) -> Path:
    """Return a path with `~` expanded; a file on the Hub is downloaded first, unless it is in the cache.

    Args:
        model: A path, or hf://owner/name/file. A branch, tag or commit goes behind the name: hf://owner/name@v1/file.
        defaults: What hf://owner/name without a file means: the first of these that the repository has.

    Raises:
        ArtifactError: There is no such file, it cannot be reached, or what came is not what the Hub has.
    """
    if not str(model).startswith("hf:/"):  # a Path drops one of the slashes
        return expand(model)
    parts = _LINK.fullmatch(str(model))
    if not parts:
        raise ArtifactError(f"{model} must be hf://owner/name/file, as in hf://me/my-faces/model.onnx")
    repository, revision, file = parts.groups()
    return _download(str(model), repository, revision, (file,) if file else defaults)


@functools.cache  # a process uses one version, and names it once
def _download(link: str, repository: str, revision: str | None, names: tuple[str, ...]) -> Path:
    from huggingface_hub import errors, hf_hub_download  # takes time to import

    for name in names:
        try:
            path = Path(hf_hub_download(repository, name, revision=revision))
            break
        except errors.EntryNotFoundError as error:
            if name == names[-1]:
                raise explained(link, repository, error) from error
        except Exception as error:  # of the Hub, of HTTP, of the disk
            raise explained(link, repository, error) from error
    content, blob = digest(path), path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and blob.name != content:  # the digest that the Hub has of a large file
        blob.unlink()
        raise ArtifactError(f"{link}: what came is not the file that the Hub has, and was deleted; try again")
    line = f"hf://{repository}@{path.parents[name.count('/')].name}/{name} has sha256 {content}"
    if _log.isEnabledFor(logging.INFO):  # in train.log; other programs log only warnings
        _log.info(line)
    else:
        print(line, file=sys.stderr)
    return path


def repository_of(path: Path) -> str | None:
    """Return owner/name of a file in the Hub's cache, None for other files."""
    folders = [part for part in path.parts if part.startswith("models--")]
    return folders[-1].removeprefix("models--").replace("--", "/") if folders else None


def explained(what: str, repository: str, error: Exception) -> ArtifactError:
    """Return an error of `huggingface_hub` as one line that names the fix; `what` is the link, or the key."""
    from huggingface_hub import constants, errors

    url = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the Hub was of no use
    status = getattr(getattr(error, "response", None), "status_code", None)
    login = "log in with: hf auth login, or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        text = f"its owner has to let you in; ask at {url}, then {login}"
    elif isinstance(error, errors.RevisionNotFoundError):
        text = f"there is no such branch, tag or commit; see {url}/commits/main"
    elif isinstance(error, errors.RemoteEntryNotFoundError):
        text = f"there is no such file; see {url}/tree/main"
    elif isinstance(error, errors.RepositoryNotFoundError | errors.LocalTokenNotFoundError) or status in (401, 403):
        text = f"there is no such repository, or you may not use it; check {url}, or {login}"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        text = "it is not in the cache, and HF_HUB_OFFLINE is set; unset it"
    elif isinstance(error, errors.HFValidationError):
        text = "this is no name of a repository; it must be owner/name, as in me/my-faces"
    else:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        text = f"{constants.ENDPOINT} cannot be used ({reason}); nothing half is kept; check the connection, try again"
    return ArtifactError(f"{what}: {text}")
