"""What a Hub does with uploads: repositories, branches, large files, commits, and who may write.

The protocol is the one without Xet (``HF_HUB_DISABLE_XET``): ``preupload`` says which files are
large, those go through the LFS batch endpoint, and a commit names them by their checksum.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

if TYPE_CHECKING:
    from support.hub import Repository


@dataclass
class Uploads:
    """What a server knows besides its repositories.

    Attributes:
        owners: Token → the owners that it may write to.
        private: Names of repositories that only their owners see.
        objects: Checksum → large file that was uploaded, whether or not it was committed.
        messages: Of all commits, in order.
    """

    owners: dict[str, set[str]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


#: Status, content, and the Hub's own code of an error.
Answer = tuple[int, Any, str]
_PAGES = re.compile(
    r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<what>preupload|commit|branch)/(?P<revision>[^/]+)$"
)
_BATCH = re.compile(r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch$")
_OBJECT = re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})$")


def answer_upload(
    hub: Any, command: str, url: str, token: str, body: bytes, new: Callable[..., Repository]
) -> Answer | None:
    """Return the answer to a request that writes; ``None`` for any other.

    Args:
        hub: The server's content, a :class:`support.hub.Hub`.
        command: ``POST`` or ``PUT``.
        url: Of the request.
        token: Who asks; empty for nobody.
        body: Of the request.
        new: Makes a repository from its revisions.
    """
    path = urlsplit(url).path
    if command == "PUT" and (found := _OBJECT.match(path)):
        return _put(hub, found["oid"], body)
    if command != "POST":
        return None
    if path == "/api/validate-yaml":
        return _validated(json.loads(body)["content"])
    if path == "/api/repos/create":
        return _create(hub, json.loads(body), token, new)
    if found := _BATCH.match(path):
        refused = _refused(hub, found["name"], token)
        return refused or _batch(hub, json.loads(body))
    if found := _PAGES.match(path):
        refused = _refused(hub, found["name"], token)
        revision = unquote(found["revision"])
        return refused or _PAGE[found["what"]](hub, found["name"], revision, body)
    return None


def _refused(hub: Any, name: str, token: str) -> Answer | None:
    if token and token not in hub.uploads.owners:
        return 401, {"error": "Invalid username or password."}, ""
    if name not in hub.models:
        return (404 if token else 401), {"error": "Repository not found"}, "RepoNotFound"
    if name.partition("/")[0] not in hub.uploads.owners.get(token, ()):
        return 403, {"error": "You don't have the rights to write here."}, ""
    return None


def _create(hub: Any, asked: dict[str, Any], token: str, new: Callable[..., Any]) -> Answer:
    name = f"{asked['organization']}/{asked['name']}"
    if token not in hub.uploads.owners:
        return 401, {"error": "Invalid username or password."}, ""
    if asked["organization"] not in hub.uploads.owners[token]:
        return 403, {"error": "You don't have the rights to create a model here."}, ""
    url = {"url": f"{hub.address}/{name}", "id": name}
    if name in hub.models:
        return 409, url | {"error": "You already created this model repo"}, ""
    hub.models[name] = new({"main": {".gitattributes": b"*.safetensors filter=lfs\n"}})
    if asked.get("visibility") == "private":
        hub.uploads.private.add(name)
    return 200, url, ""


def _validated(card: str) -> Answer:
    head = re.match(r"\A---\n(.*?)\n---\n", card, re.DOTALL)
    try:
        metadata = yaml.safe_load(head[1]) if head else {}
    except yaml.YAMLError:
        return 400, {"errors": [{"message": "the head is not YAML"}]}, ""
    base = metadata.get("base_model")
    if base is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        return 400, {"errors": [{"message": '"base_model" must be the id of a model'}]}, ""
    return 200, {"errors": [], "warnings": []}, ""


def _preupload(hub: Any, name: str, revision: str, body: bytes) -> Answer:
    if hub.models[name].commit(revision) is None:
        return 404, {"error": f"Invalid rev id: {revision}"}, "RevisionNotFound"
    files = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
            "shouldIgnore": False,
        }
        for file in json.loads(body)["files"]
    ]
    return 200, {"files": files}, ""


def _batch(hub: Any, asked: dict[str, Any]) -> Answer:
    found = []
    for each in asked["objects"]:
        action = {"upload": {"href": f"{hub.address}/lfs/{each['oid']}"}}
        done = each["oid"] in hub.uploads.objects
        found.append(dict(each) if done else {**each, "actions": action})
    return 200, {"transfer": "basic", "objects": found}, ""


def _put(hub: Any, oid: str, body: bytes) -> Answer:
    if hashlib.sha256(body).hexdigest() != oid:
        return 400, {"error": "The content is not what its checksum says"}, ""
    hub.uploads.objects[oid] = body
    return 200, {}, ""


def _commit(hub: Any, name: str, revision: str, body: bytes) -> Answer:
    repository, lines = hub.models[name], [json.loads(line) for line in body.splitlines()]
    before = repository.commit(revision)
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit", before) != before:
        return 412, {"error": "A commit has happened since. Please refresh and try again."}, ""
    files = dict(repository.files(revision))
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            if value["oid"] not in hub.uploads.objects:
                return 400, {"error": f"{value['path']} was not uploaded"}, ""
            files[value["path"]] = hub.uploads.objects[value["oid"]]
    # What was there before stays there under its commit.
    repository.revisions[before] = repository.revisions[revision]
    repository.revisions[revision] = files
    hub.uploads.messages.append(header["summary"])
    commit = repository.commit(revision)
    url = f"{hub.address}/{name}/commit/{commit}"
    return 200, {"success": True, "commitOid": commit, "commitUrl": url}, ""


def _branch(hub: Any, name: str, revision: str, body: bytes) -> Answer:
    repository = hub.models[name]
    if revision in repository.revisions:
        return 409, {"error": "Reference already exists"}, ""
    repository.revisions[revision] = dict(repository.files("main"))
    return 200, {}, ""


_PAGE = {"preupload": _preupload, "commit": _commit, "branch": _branch}
