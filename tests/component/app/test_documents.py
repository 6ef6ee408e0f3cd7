"""Uploads: what becomes of good, bad and repeated files."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import chain, repeat
from typing import Any

import httpx
import psycopg
from fpdf import FPDF

HEAD = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.txt"\r\n\r\n'
TEA = b"# House\n\n## Tea\n\nTea is served at four.\n\n## Coffee\n\nCoffee is served at ten."


def upload(client: httpx.Client, *files: tuple[str, bytes]) -> list[dict[str, Any]]:
    response = client.post("/api/documents", files=[("files", file) for file in files])
    assert response.status_code == 201, response.text
    documents: list[dict[str, Any]] = response.json()["documents"]
    return documents


def pdf(*pages: str, encrypt: bool = False) -> bytes:
    document = FPDF()
    if encrypt:
        document.set_encryption(owner_password="owner", user_password="user")
    for text in pages:
        document.add_page()
        document.set_font("Helvetica")
        if text:
            document.cell(text=text)
    return bytes(document.output())


def test_every_format_becomes_a_document(
    client: httpx.Client, documents: Callable[..., Any]
) -> None:
    files = documents()
    response = client.post("/api/documents", files=files)
    assert response.status_code == 201, response.text
    found = response.json()["documents"]
    assert [d["name"] for d in found] == [name for _, (name, _) in files]
    assert {d["status"] for d in found} == {"ready"}, found
    assert all(d["chunks"] > 0 and d["error"] is None for d in found)
    assert {d["media_type"] for d in found} == {
        "application/pdf", "text/csv", "text/html", "text/markdown", "text/plain",
    }  # fmt: skip
    listed = client.get("/api/documents").json()["documents"]
    assert sorted(d["id"] for d in listed) == sorted(d["id"] for d in found)
    assert client.get(f"/api/documents/{found[0]['id']}").json() == found[0]


def test_the_same_file_again_is_the_same_document(
    client: httpx.Client, scripted_ollama: Any
) -> None:
    (first,) = upload(client, ("tea.md", TEA))
    embedded = len(scripted_ollama.embedded)
    assert upload(client, ("tea.md", TEA), ("tea.md", TEA)) == [first, first]
    assert len(scripted_ollama.embedded) == embedded
    assert len(client.get("/api/documents").json()["documents"]) == 1
    (other,) = upload(client, ("other name.md", TEA))
    assert other["id"] != first["id"]


def test_the_same_file_at_the_same_time(running: Any) -> None:
    def send(_: int) -> str:
        with running.client() as client:
            return str(upload(client, ("tea.md", TEA))[0]["id"])

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(send, range(6)))) == 1
    with running.client() as client:
        (document,) = client.get("/api/documents").json()["documents"]
        assert (document["status"], document["chunks"]) == ("ready", 2)


UNREADABLE = [
    ("empty.txt", b"", "empty"),
    ("blank.md", b"  \n\n\t", "no text"),
    ("setup.exe", b"MZ\x00\x01", "upload one of .txt"),
    ("binary.txt", b"a\x00b", "not a text file"),
    ("scan.pdf", pdf(""), "OCR"),
    ("secret.pdf", pdf("hidden", encrypt=True), "remove its password"),
    ("torn.pdf", pdf("some text", "more")[:400], "damaged PDF"),
    ("renamed.pdf", b"this was a text file", "not a PDF"),
    ("markup.html", b"<html><script>var x = 1</script></html>", "no text"),
]


def test_a_file_that_cannot_be_read_says_so(client: httpx.Client) -> None:
    *bad, good = upload(client, *((name, data) for name, data, _ in UNREADABLE), ("tea.md", TEA))
    assert good["status"] == "ready", "bad files must not spoil the others"
    for document, (name, _, words) in zip(bad, UNREADABLE, strict=True):
        assert document["status"] == "failed"
        assert document["error"].startswith(name)
        assert words in document["error"]


def test_failed_embedding_is_told_and_tried_again(
    client: httpx.Client, scripted_ollama: Any
) -> None:
    scripted_ollama.down = True
    (failed,) = upload(client, ("tea.md", TEA))
    assert failed["status"] == "failed"
    assert "Ollama" in failed["error"]
    scripted_ollama.down = False
    (ready,) = upload(client, ("tea.md", TEA))
    assert (ready["id"], ready["status"], ready["error"]) == (failed["id"], "ready", None)


def test_what_a_dead_process_left_is_taken_over(client: httpx.Client, running: Any) -> None:
    (document,) = upload(client, ("tea.md", TEA))
    with psycopg.connect(running.settings.database_url, autocommit=True) as connection:
        connection.execute("UPDATE documents SET status = 'processing', started_at = now()")
        assert upload(client, ("tea.md", TEA))[0]["status"] == "processing"
        connection.execute("UPDATE documents SET started_at = now() - interval '1 hour'")
        (left,) = client.get("/api/documents").json()["documents"]
        assert left["status"] == "failed"
        assert "interrupted" in left["error"]
    (again,) = upload(client, ("tea.md", TEA))
    assert (again["id"], again["status"], again["chunks"]) == (document["id"], "ready", 2)


def test_delete_takes_everything(client: httpx.Client, running: Any) -> None:
    (document,) = upload(client, ("tea.md", TEA))
    assert client.delete(f"/api/documents/{document['id']}").status_code == 204
    for response in (
        client.get(f"/api/documents/{document['id']}"),
        client.delete(f"/api/documents/{document['id']}"),
        client.get(f"/api/documents/{document['id']}/file"),
    ):
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"
    with psycopg.connect(running.settings.database_url) as connection:
        for table in ("documents", "document_files", "chunks"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_only_uploader_and_admin_delete(with_keys: Any) -> None:
    with (
        with_keys.client("ann-key") as ann,
        with_keys.client("ben-key") as ben,
        with_keys.client("root-key") as root,
    ):
        one, two = upload(ann, ("one.md", TEA), ("two.md", TEA))
        assert one["uploaded_by"] == "ann"
        assert len(ben.get("/api/documents").json()["documents"]) == 2, "documents are shared"
        refused = ben.delete(f"/api/documents/{one['id']}")
        assert refused.status_code == 403
        assert "ann" in refused.json()["error"]["message"]
        assert ann.delete(f"/api/documents/{one['id']}").status_code == 204
        assert root.delete(f"/api/documents/{two['id']}").status_code == 204


def test_original_comes_back(client: httpx.Client) -> None:
    (document,) = upload(client, ("räport a.md", TEA))
    response = client.get(f"/api/documents/{document['id']}/file")
    assert response.content == TEA
    assert response.headers["content-type"].startswith("text/markdown")
    disposition = response.headers["content-disposition"]
    assert disposition == "attachment; filename*=UTF-8''r%C3%A4port%20a.md"


def test_bad_uploads_are_refused(
    serve: Callable[..., AbstractContextManager[Any]], app_settings: Callable[..., Any]
) -> None:
    requests: list[tuple[dict[str, Any], int]] = [
        ({"json": {"files": []}}, 422),
        ({"files": [("other", ("a.md", TEA))]}, 422),
        ({"data": {"files": "text, not a file"}}, 422),
        ({"content": b"junk", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"files": [("files", (f"{n}.md", TEA)) for n in range(4)]}, 400),
    ]
    with serve(app_settings(upload_max_files=3)) as running, running.client() as client:
        for request, status in requests:
            response = client.post("/api/documents", **request)
            assert response.status_code == status, response.text
            assert response.json()["error"]["message"]
        assert client.get("/api/documents").json() == {"documents": []}


def test_size_limits(
    serve: Callable[..., AbstractContextManager[Any]], app_settings: Callable[..., Any]
) -> None:
    with serve(app_settings(upload_max_bytes=1000)) as running, running.client() as client:
        big = ("big.txt", b"x" * 2000)
        response = client.post("/api/documents", files=[("files", big)])
        assert response.status_code == 413
        assert "big.txt" in response.json()["error"]["message"]
        # An honest length is refused before the body is read, a hidden one while it is.
        huge = ("huge.txt", io.BytesIO(b"x" * 2**21))
        declared = client.post("/api/documents", files=[("files", huge)])
        assert (declared.status_code, declared.json()["error"]["code"]) == (413, "too_large")
        hidden = client.post(
            "/api/documents",
            content=chain([HEAD], repeat(b"x" * 2**16, 32)),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert hidden.status_code == 413, hidden.text
