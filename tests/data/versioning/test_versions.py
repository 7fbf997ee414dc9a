"""Pointers of versioning tools, and the files that belong to a table, written as the tools' own documents say.

DVC: dvc.org/doc/user-guide/project-structure. Delta: PROTOCOL.md of delta-io/delta. Iceberg: format/spec.md of
apache/iceberg. lakeFS: docs.lakefs.io.
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from orchestrator.data.versioning.pointers import live_files, version_pointers
from orchestrator.errors import DataError
from orchestrator.results import DataSummary
from orchestrator.tracking.records import from_plain, to_plain

MD5 = "22a1a2931c8370d3aeedd7183606fd7f"
COMMIT = "1f9d1bd2a0a5c6fb3b1a39d1d7c4b4e0a6f5e2c3"
LAKEFS_COMMIT = "8e1b6e2e2ba8c3ec1f42b7eb3b0c4ef0f43d2ba4b9ec5a01d3a5b1a0a7b6c5d4"
SCHEMA = '{"type":"struct","fields":[{"name":"x","type":"long","nullable":true,"metadata":{}}]}'


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A DVC project in a git work tree, on branch main at `COMMIT`."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    write(root / ".git" / "HEAD", "ref: refs/heads/main\n")
    write(root / ".git" / "refs" / "heads" / "main", f"{COMMIT}\n")
    return root


# DVC


def test_a_dvc_file_beside_a_data_file_is_its_pointer(project: Path) -> None:
    source = write(project / "data" / "train.csv", "x,y\n1,2\n")
    write(project / "data" / "train.csv.dvc", f"outs:\n- md5: {MD5}\n  size: 8\n  hash: md5\n  path: train.csv\n")
    write(project / "data" / "other.csv.dvc", f"outs:\n- md5: {'0' * 32}\n  path: other.csv\n")

    assert version_pointers(source) == {
        "dvc.md5": MD5, "dvc.file": "data/train.csv.dvc", "dvc.git_commit": COMMIT,
    }  # fmt: skip


def test_a_dvc_file_of_a_folder_holds_for_what_lies_in_it(project: Path) -> None:
    source = write(project / "data" / "raw" / "deep" / "a.parquet", "")
    write(project / "data.dvc", f"outs:\n- md5: {MD5}.dir\n  size: 9\n  nfiles: 1\n  path: data\n")

    for asked in (source, source.parent, project / "data"):
        assert version_pointers(asked)["dvc.md5"] == f"{MD5}.dir"


def test_the_working_folder_of_a_dvc_file_is_respected(project: Path) -> None:
    source = write(project / "data" / "a.csv", "")
    write(project / "a.dvc", f"wdir: data\nouts:\n- md5: {MD5}\n  path: a.csv\n")

    assert version_pointers(source)["dvc.md5"] == MD5


def test_files_of_a_folder_that_dvc_tracks_one_by_one_are_listed(project: Path) -> None:
    for number in range(10):
        write(project / "data" / f"{number}.parquet", "")
        write(
            project / "data" / f"{number}.parquet.dvc", f"outs:\n- md5: {number}{MD5[1:]}\n  path: {number}.parquet\n"
        )

    said = version_pointers(project / "data")["dvc.md5"]

    assert said.startswith(f"0.parquet 0{MD5[1:]}, 1.parquet 1")
    assert said.endswith("and 2 more")


def test_what_a_pipeline_made_is_found_in_dvc_lock(project: Path) -> None:
    source = write(project / "prepared" / "train" / "a.parquet", "").parent
    write(
        project / "dvc.lock",
        "schema: '2.0'\nstages:\n  prepare@uk:\n    cmd: python prepare.py\n"
        "    deps:\n    - path: raw\n      md5: 00.dir\n"
        f"    outs:\n    - path: train\n      hash: md5\n      md5: {MD5}.dir\n      size: 3\n      nfiles: 1\n",
    )
    write(
        project / "dvc.yaml",
        "stages:\n  prepare:\n    foreach: [uk]\n    do:\n      wdir: prepared\n      cmd: python prepare.py\n",
    )

    assert version_pointers(source) == {"dvc.md5": f"{MD5}.dir", "dvc.file": "dvc.lock", "dvc.git_commit": COMMIT}


def test_without_a_project_only_a_pointer_beside_the_source_counts(tmp_path: Path) -> None:
    source = write(tmp_path / "a" / "b" / "x.csv", "")
    write(tmp_path / "a.dvc", f"outs:\n- md5: {MD5}\n  path: a\n")

    assert version_pointers(source) == {}
    write(tmp_path / "a" / "b" / "x.csv.dvc", f"outs:\n- md5: {MD5}\n  path: x.csv\n")
    assert version_pointers(source) == {"dvc.md5": MD5, "dvc.file": "x.csv.dvc"}


def test_a_damaged_pointer_hides_no_other_and_is_told(project: Path) -> None:
    source = write(project / "a.csv", "")
    write(project / "a.csv.dvc", f"outs:\n- md5: {MD5}\n  path: a.csv\n")
    write(project / "b.csv.dvc", "outs: [{md5: 'unclosed\n")

    pointers = version_pointers(source)

    assert pointers["dvc.md5"] == MD5
    assert pointers["note"] == f"left out: ValueError: {project}/b.csv.dvc: is not YAML"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "outs: 3", "outs: [3]", "outs: [{path: a.csv}]", "outs: [{md5: 1}]", "\0", "a: &a [*a]", "- - -"],
)
def test_whatever_a_pointer_holds_nothing_is_raised(project: Path, content: str) -> None:
    source = write(project / "a.csv", "")
    for name in ("a.csv.dvc", "dvc.lock", "dvc.yaml", ".lakefs_ref.yaml", "metadata/v1.metadata.json"):
        write(project / name, content)
    write(project / "_delta_log" / f"{0:020d}.json", content)

    for asked in (source, project):
        assert set(version_pointers(asked)) <= {"note", "delta.version", "dvc.md5", "dvc.file", "dvc.git_commit"}


def test_random_bytes_in_any_pointer_raise_nothing(project: Path) -> None:
    rng = random.Random(0)
    source = write(project / "a.csv", "")
    for _ in range(50):
        for name in ("a.csv.dvc", "dvc.lock", ".lakefs_ref.yaml", "metadata/v1.metadata.json", ".git/HEAD"):
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_bytes(rng.randbytes(rng.randrange(60)))

        version_pointers(source)
        version_pointers(project)


def test_a_source_that_is_not_there_has_no_pointers(tmp_path: Path) -> None:
    assert version_pointers(tmp_path / "no" / "where") == {}
    assert version_pointers("sklearn:digits") == {}


# The git commit


def pointed(root: Path) -> str | None:
    write(root / "a.csv", "")
    write(root / "a.csv.dvc", f"outs:\n- md5: {MD5}\n  path: a.csv\n")
    return version_pointers(root / "a.csv").get("dvc.git_commit")


def test_a_packed_ref_and_a_detached_head_are_read(project: Path) -> None:
    (project / ".git" / "refs" / "heads" / "main").unlink()
    write(
        project / ".git" / "packed-refs",
        f"# pack-refs with: peeled\n{'0' * 40} refs/heads/other\n{COMMIT} refs/heads/main\n",
    )
    assert pointed(project) == COMMIT

    write(project / ".git" / "HEAD", f"{'a' * 40}\n")
    assert pointed(project) == "a" * 40


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_the_one_git_itself_names_in_a_linked_work_tree_too(tmp_path: Path) -> None:
    main, linked = tmp_path / "main", tmp_path / "linked"

    def git(*arguments: str, folder: Path = main) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
        return subprocess.check_output(["git", "-C", str(folder), *identity, *arguments], text=True).strip()

    main.mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    git("worktree", "add", "-q", "-b", "side", str(linked))
    git("commit", "-q", "--allow-empty", "-m", "two", folder=linked)
    (main / ".dvc").mkdir()
    (linked / ".dvc").mkdir()

    assert pointed(main) == git("rev-parse", "HEAD")
    assert pointed(linked) == git("rev-parse", "HEAD", folder=linked) != git("rev-parse", "HEAD")


# lakeFS


def test_a_lakefs_address_names_repository_and_ref() -> None:
    assert version_pointers("lakefs://my-repo/main/data/train") == {
        "lakefs.repository": "my-repo", "lakefs.ref": "main",
    }  # fmt: skip
    assert version_pointers(f"lakefs://my-repo/{LAKEFS_COMMIT}/data/") == {
        "lakefs.repository": "my-repo", "lakefs.ref": LAKEFS_COMMIT, "lakefs.commit": LAKEFS_COMMIT,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("address", "environ"),
    [
        ("s3://key:secret@my-repo/main/data?endpoint_override=lakefs.example.org", {}),
        ("s3://my-repo/main/data?endpoint_override=https%3A%2F%2Fdata.example.org", {"LAKECTL_SERVER_ENDPOINT_URL": "https://data.example.org/api/v1"}),
        ("s3a://my-repo/main/data", {"AWS_ENDPOINT_URL": "https://lakefs.example.org"}),
    ],
)  # fmt: skip
def test_the_s3_gateway_of_a_lakefs_server_is_recognised_by_its_host(address: str, environ: Mapping[str, str]) -> None:
    assert version_pointers(address, environ=environ) == {"lakefs.repository": "my-repo", "lakefs.ref": "main"}


def test_an_s3_bucket_is_not_taken_for_lakefs() -> None:
    assert version_pointers("s3://bucket/main/data", environ={}) == {}
    assert version_pointers("s3://bucket/main/data?endpoint_override=minio.example.org:9000", environ={}) == {}


def test_a_lakefs_address_without_a_ref_is_told() -> None:
    assert "names no repository and ref" in version_pointers("lakefs://my-repo")["note"]


def test_a_folder_that_lakectl_cloned_knows_its_commit(tmp_path: Path) -> None:
    write(tmp_path / ".lakefs_ref.yaml", f"src: lakefs://my-repo/main/images/\nat_head: {LAKEFS_COMMIT}\n")

    assert version_pointers(tmp_path / "cats") == {
        "lakefs.repository": "my-repo", "lakefs.ref": "main", "lakefs.commit": LAKEFS_COMMIT,
    }  # fmt: skip


# In the journal


def test_a_summary_recorded_before_there_were_pointers_is_read_without_any() -> None:
    summary = DataSummary(fingerprint="f", source="s", n_rows=3, n_train=2, n_validation=1, versions={"dvc.md5": MD5})
    recorded = to_plain(summary)
    assert from_plain(DataSummary, recorded) == summary

    del recorded["versions"]

    assert from_plain(DataSummary, recorded) == replace(summary, versions={})


# Delta Lake


def add(name: str, **more: Any) -> dict[str, Any]:
    return {"add": {"path": name, "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": True, **more}}


def remove(name: str, **more: Any) -> dict[str, Any]:
    return {"remove": {"path": name, "deletionTimestamp": 1, "dataChange": True, **more}}


def metadata(columns: Sequence[str] = (), **configuration: str) -> dict[str, Any]:
    return {
        "metaData": {
            "id": "af23c9d7-fff1-4a5a-a2c8-55c59bd782aa", "format": {"provider": "parquet", "options": {}},
            "schemaString": SCHEMA, "partitionColumns": list(columns), "configuration": configuration,
        }
    }  # fmt: skip


PROTOCOL = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
START = [PROTOCOL, metadata()]


_TEXTS = pa.map_(pa.string(), pa.string())
_VECTOR = pa.struct([("storageType", pa.string()), ("pathOrInlineDv", pa.string()), ("offset", pa.int32())])
_ADD = [("path", pa.string()), ("partitionValues", _TEXTS), ("stats", pa.string()), ("deletionVector", _VECTOR)]
_METADATA = [("id", pa.string()), ("partitionColumns", pa.list_(pa.string())), ("configuration", _TEXTS)]
CHECKPOINT = pa.schema(
    {
        "add": pa.struct(_ADD),
        "remove": pa.struct([("path", pa.string())]),
        "metaData": pa.struct(_METADATA),
        "protocol": pa.struct([("minReaderVersion", pa.int32()), ("readerFeatures", pa.list_(pa.string()))]),
        "sidecar": pa.struct([("path", pa.string()), ("sizeInBytes", pa.int64())]),
    }
)


def _known(body: dict[str, Any], columns: pa.StructType) -> dict[str, Any]:
    """What a checkpoint has columns for; a map is a list of pairs to Arrow."""
    kept = {key: value for key, value in body.items() if key in columns.names}
    return {key: list(value.items()) if columns.field(key).type == _TEXTS else value for key, value in kept.items()}


class Delta:
    """A table that is written commit by commit; its data files are left out, for nobody opens them here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.version = folder, -1
        (folder / "_delta_log").mkdir(parents=True)

    def commit(self, *actions: dict[str, Any], timestamp: int = 1_700_000_000_123) -> None:
        self.version += 1
        said = {"commitInfo": {"timestamp": timestamp, "operation": "WRITE"}}
        lines = "\n".join(json.dumps(action) for action in (said, *actions))
        write(self.folder / "_delta_log" / f"{self.version:020d}.json", lines + "\n")

    def checkpoint(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        path = self.folder / "_delta_log" / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".json"):
            write(path, "\n".join(map(json.dumps, rows)))
            return
        known = [{kind: _known(body, CHECKPOINT.field(kind).type) for kind, body in row.items()} for row in rows]
        pq.write_table(pa.Table.from_pylist(known, CHECKPOINT), path)

    def forget(self, *versions: int) -> None:
        for version in versions:
            (self.folder / "_delta_log" / f"{version:020d}.json").unlink()

    def live(self) -> list[str]:
        found = live_files(self.folder)
        assert found is not None
        return [str(Path(path).relative_to(self.folder)) for path in found]


@pytest.fixture
def delta(tmp_path: Path) -> Delta:
    return Delta(tmp_path / "table")


def test_the_version_of_a_delta_table_is_its_latest_commit(delta: Delta) -> None:
    delta.commit(*START, add("a.parquet"))
    delta.commit(add("b.parquet"), timestamp=1_700_000_009_000)

    assert version_pointers(delta.folder) == {"delta.version": "1", "delta.timestamp": "2023-11-14T22:13:29.000+00:00"}


def test_a_version_that_only_a_checkpoint_holds_counts(delta: Delta) -> None:
    delta.commit(*START, add("a.parquet"))
    delta.checkpoint(f"{0:020d}.checkpoint.parquet", [*START, add("a.parquet")])
    delta.forget(0)

    assert version_pointers(delta.folder) == {"delta.version": "0"}
    assert delta.live() == ["a.parquet"]


def test_removed_files_are_not_live(delta: Delta) -> None:
    delta.commit(*START, add("a.parquet"), add("b.parquet"))
    delta.commit(remove("a.parquet"), add("c%20d.parquet"))
    delta.commit(remove("b.parquet"))
    delta.commit(add("b.parquet"))

    assert delta.live() == ["b.parquet", "c d.parquet"]


@pytest.mark.parametrize(
    "names",
    [
        [f"{1:020d}.checkpoint.parquet"],
        [f"{1:020d}.checkpoint.{part:010d}.{2:010d}.parquet" for part in (1, 2)],
        [f"{1:020d}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json"],
        [f"{1:020d}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet"],
    ],
    ids=["classic", "in parts", "json", "uuid"],
)
def test_a_checkpoint_stands_for_the_commits_before_it(delta: Delta, names: list[str]) -> None:
    delta.commit(*START, add("a.parquet"), add("b.parquet"))
    delta.commit(remove("a.parquet"))
    rows = [*START, add("b.parquet"), {"remove": {"path": "a.parquet"}}]
    for part, name in enumerate(names):
        delta.checkpoint(name, rows[part :: len(names)])
    delta.commit(add("c.parquet"))
    delta.forget(0, 1)

    assert delta.live() == ["b.parquet", "c.parquet"]


def test_a_checkpoint_may_keep_its_files_in_sidecars(delta: Delta) -> None:
    delta.commit(*START, add("a.parquet"))
    delta.checkpoint("_sidecars/one.parquet", [add("a.parquet")])
    rows = [*START, {"checkpointMetadata": {"version": 0}}, {"sidecar": {"path": "one.parquet", "sizeInBytes": 1}}]
    delta.checkpoint(f"{0:020d}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json", rows)
    delta.forget(0)

    assert delta.live() == ["a.parquet"]


def test_a_checkpoint_with_a_part_missing_is_passed_over(delta: Delta) -> None:
    delta.commit(*START, add("a.parquet"))
    delta.checkpoint(f"{0:020d}.checkpoint.{1:010d}.{2:010d}.parquet", START)

    assert delta.live() == ["a.parquet"]


def test_a_log_with_a_commit_missing_is_refused(delta: Delta) -> None:
    for _ in range(3):
        delta.commit(*START, add("a.parquet"))
    delta.forget(1)

    with pytest.raises(
        DataError, match=r"log cannot be read \(version 1 is missing between -1 and 2\); repair or fetch"
    ):
        live_files(delta.folder)
    assert version_pointers(delta.folder)["delta.version"] == "2"


VECTOR = {
    "storageType": "u",
    "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
    "offset": 4,
    "sizeInBytes": 40,
    "cardinality": 6,
}
FEATURES = {
    "protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors", "variantType"]}
}


@pytest.mark.parametrize(
    ("actions", "fault"),
    [
        ([*START, add("a.parquet", deletionVector=VECTOR)], "rows of 1 of its 1 files are deleted by deletion vectors"),
        ([PROTOCOL, metadata(["year"]), add("year=1/a.parquet")], "its columns year are in the log and not in the"),
        ([PROTOCOL, metadata(**{"delta.columnMapping.mode": "name"}), add("a.parquet")], "its columns have other"),
        ([*START, add("s3://other/a.parquet")], r"1 of its files lie elsewhere \(\['s3://other/a.parquet'\]\)"),
        ([FEATURES, metadata(), add("a.parquet")], "it uses variantType, unknown to this version"),
    ],
)  # fmt: skip
def test_what_files_alone_would_get_wrong_is_refused_with_the_way_out(
    delta: Delta, actions: list[dict[str, Any]], fault: str
) -> None:
    delta.commit(*actions)

    with pytest.raises(
        DataError, match=f"is a Delta table whose .*{fault}.*write the table out as plain Parquet first"
    ):
        live_files(delta.folder)


def test_a_file_whose_deleted_rows_were_rewritten_can_be_read(delta: Delta) -> None:
    delta.commit(*START, add("a.parquet"))
    delta.commit(remove("a.parquet"), add("a.parquet", deletionVector=VECTOR))
    delta.commit(remove("a.parquet", deletionVector=VECTOR), add("b.parquet"))

    assert delta.live() == ["b.parquet"]


def test_a_table_may_lie_in_any_file_system(delta: Delta) -> None:
    delta.commit(*START, add("a.parquet"))
    filesystem = pafs.SubTreeFileSystem(str(delta.folder.parent), pafs.LocalFileSystem())

    assert live_files("table", filesystem) == ["table/a.parquet"]
    assert version_pointers("s3://table", filesystem, environ={})["delta.version"] == "0"


def test_a_folder_or_file_that_is_no_table_has_no_list(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")

    assert live_files(tmp_path) is None
    assert live_files(tmp_path / "a.parquet") is None
    assert live_files(tmp_path / "missing") is None
    assert version_pointers(tmp_path / "a.parquet") == {}


# Iceberg


def iceberg(
    folder: Path, name: str, *, files: int | None, deletes: int = 0, snapshot: int = 3055729675574597004
) -> None:
    summary = {"operation": "append", "total-data-files": str(files), "total-delete-files": str(deletes)}
    content = {
        "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "s3://bucket/table",
        "last-updated-ms": 1602638573590, "current-schema-id": 1,
        "schemas": [{"type": "struct", "schema-id": 1, "fields": []}],
        "current-snapshot-id": -1 if files is None else snapshot,
        "snapshots": [] if files is None else [{"snapshot-id": snapshot, "timestamp-ms": 1, "summary": summary}],
    }  # fmt: skip
    path = folder / "metadata" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content).encode()
    path.write_bytes(gzip.compress(text) if ".gz" in name else text)


@pytest.mark.parametrize(
    "names",
    [
        ("v9.metadata.json", "v10.metadata.json"),
        ("00009-5f8a-4c.metadata.json", "00010-aa1e-9b.metadata.json"),
        ("v9.gz.metadata.json", "v10.gz.metadata.json"),
    ],
)
def test_the_snapshot_of_an_iceberg_table_is_that_of_its_newest_metadata(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    iceberg(tmp_path, names[0], files=1, snapshot=7)
    iceberg(tmp_path, names[1], files=1)
    write(tmp_path / "metadata" / "version-hint.text", "9")  # lags behind, as it may

    assert version_pointers(tmp_path) == {
        "iceberg.metadata": names[1], "iceberg.snapshot_id": "3055729675574597004", "iceberg.schema_id": "1",
    }  # fmt: skip


def test_two_metadata_files_of_one_number_are_left_to_the_catalog(tmp_path: Path) -> None:
    iceberg(tmp_path, "00001-a.metadata.json", files=1)
    iceberg(tmp_path, "00001-b.metadata.json", files=1)

    assert "have the same number; only the catalog knows" in version_pointers(tmp_path)["note"]


def test_an_iceberg_folder_without_stale_files_is_read_whole(tmp_path: Path) -> None:
    iceberg(tmp_path, "v1.metadata.json", files=2)
    files = [write(tmp_path / "data" / name, "") for name in ("a.parquet", "year=1/b.parquet")]

    assert live_files(tmp_path) == [str(file) for file in files]


def test_an_empty_iceberg_table_has_no_files(tmp_path: Path) -> None:
    iceberg(tmp_path, "v1.metadata.json", files=None)

    assert live_files(tmp_path) == []
    assert version_pointers(tmp_path)["iceberg.snapshot_id"] == "none"


@pytest.mark.parametrize(("files", "deletes"), [(1, 0), (3, 0), (2, 1)])
def test_an_iceberg_folder_with_stale_files_or_deleted_rows_is_refused(
    tmp_path: Path, files: int, deletes: int
) -> None:
    iceberg(tmp_path, "v1.metadata.json", files=files, deletes=deletes)
    for name in ("a.parquet", "b.parquet"):
        write(tmp_path / "data" / name, "")

    with pytest.raises(DataError, match=rf"of {files} data files.* and the folder has 2; .*with `pyiceberg` or Spark"):
        live_files(tmp_path)
