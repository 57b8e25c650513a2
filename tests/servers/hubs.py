"""Hugging Face and ModelScope as their own clients see them: one data set, whose files a test changes as it likes."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import unquote

from servers.base import NOT_FOUND, Answer, Request, Server


def _json(value: Any, **headers: str) -> Answer:
    return Answer(json.dumps(value).encode(), "application/json", headers=headers)


class Hub(Server):
    """``files`` are the contents by path. Those that end in .jsonl are large (LFS) files: their SHA-256 is told."""

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        super().__init__()
        self.repository = repository
        self.files = files

    @property
    def downloads(self) -> list[str]:
        """What was asked for with GET and is a file."""
        raise AssertionError


class HuggingFace(Hub):
    """The paths that ``huggingface_hub`` 1.x asks for; the tree comes two entries a page."""

    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    @property
    def downloads(self) -> list[str]:
        return [path.rpartition("/resolve/")[2].partition("/")[2] for path in self.requests if "/resolve/" in path]

    def answer(self, request: Request) -> Answer:
        path = unquote(request.path)
        api, files = f"/api/datasets/{self.repository}", f"/datasets/{self.repository}/resolve/"
        commit = self.commit()
        if path == "/":
            return Answer(b"<html></html>", "text/html")
        if path in (api, f"{api}/revision/main", f"{api}/revision/{commit}"):
            return _json({"id": self.repository, "sha": commit, "siblings": [], "private": False})
        if path == f"{api}/tree/{commit}":
            return self._tree(request, path)
        if path.startswith(files):
            revision, _, name = path.removeprefix(files).partition("/")
            if revision == commit and name in self.files:
                return self._file(name, commit)
            return Answer(b"", status=404, headers={"X-Error-Code": "EntryNotFound"})
        if path.startswith(f"{api}/revision/"):
            return Answer(b"", status=404, headers={"X-Error-Code": "RevisionNotFound"})
        return Answer(b"", status=404, headers={"X-Error-Code": "RepoNotFound"})

    def _tree(self, request: Request, path: str) -> Answer:
        folders = {name.partition("/")[0] for name in self.files if "/" in name}
        entries: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": f} for f in folders]
        for name, content in sorted(self.files.items()):
            entry = {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": name}
            if name.endswith(".jsonl"):
                oid = hashlib.sha256(content).hexdigest()
                entry |= {"lfs": {"oid": oid, "size": len(content), "pointerSize": 130}}
            entries.append(entry)
        start = int(request.parameters.get("cursor", 0))
        if start + 2 >= len(entries):
            return _json(entries[start:])
        following = f"{self.url.rstrip('/')}{path}?recursive=True&cursor={start + 2}"
        return _json(entries[start : start + 2], Link=f'<{following}>; rel="next"')

    def _file(self, name: str, commit: str) -> Answer:
        content = self.files[name]
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{sha256}"', "X-Repo-Commit": commit, "X-Linked-Size": str(len(content))}
        return Answer(content, headers=headers)


class ModelScope(Hub):
    """The paths that ``modelscope_hub`` 0.5 asks for."""

    @property
    def downloads(self) -> list[str]:
        return [unquote(path.partition("FilePath=")[2]).split("&")[0] for path in self.requests if "FilePath=" in path]

    def answer(self, request: Request) -> Answer:
        api = f"/api/v1/datasets/{self.repository}/repo"
        if request.path == "/":
            return Answer(b"<html></html>", "text/html")
        if request.path == f"{api}/tree" and request.parameters["Revision"] == "master":
            return _json({"Code": 200, "Success": True, "Data": {"Files": self._files(request)}})
        if request.path == api and request.parameters["FilePath"] in self.files:
            content = self.files[request.parameters["FilePath"]]
            return Answer(content, headers={"ETag": f'"{hashlib.sha256(content).hexdigest()}"'})
        return NOT_FOUND

    def _files(self, request: Request) -> list[dict[str, Any]]:
        page, size = int(request.parameters["PageNumber"]), int(request.parameters["PageSize"])
        files = [
            {
                "Path": name,
                "Name": name.rpartition("/")[2],
                "Type": "blob",
                "Size": len(content),
                "Sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in sorted(self.files.items())
        ]
        folders = {name.partition("/")[0] for name in self.files if "/" in name}
        files += [{"Path": name, "Name": name, "Type": "tree", "Size": 0} for name in sorted(folders)]
        return files[(page - 1) * size : page * size]
