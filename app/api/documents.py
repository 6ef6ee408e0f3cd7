"""Documents: upload, list, look at, delete."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import FormData, UploadFile

from app.api.deps import AppParts, CurrentUser, uuid_or_not_found
from app.errors import BadInputError, TooLargeError
from app.rag.library import Upload, safe_name

router = APIRouter(prefix="/documents", tags=["documents"])

_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            }
        },
    }
}


@router.post("", status_code=201, openapi_extra=_UPLOAD_BODY)
async def upload(request: Request, app: AppParts, user: CurrentUser) -> dict[str, Any]:
    """Upload files; each becomes a document, whose ``status`` tells how that went.

    The body is read here, not by the framework, so that nobody unknown can fill the disk.
    """
    most = app.settings.upload_max_files
    async with request.form(max_files=most, max_fields=10) as form:
        files = _files_of(form)
        limit = app.settings.upload_max_bytes
        for file in files:
            if (file.size or 0) > limit:
                raise TooLargeError(
                    f"{safe_name(file.filename)} is larger than {limit // 2**20} MiB; split it",
                    field="files",
                )
        documents = []
        for file in files:
            received = Upload(safe_name(file.filename), await file.read())
            documents.append(await app.library.add(received, user))
    return {"documents": documents}


def _files_of(form: FormData) -> list[UploadFile]:
    files = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
    if not files:
        raise BadInputError(
            "send at least one file, in multipart/form-data under the name 'files'", field="files"
        )
    return files


@router.get("")
async def listed(
    app: AppParts, user: CurrentUser, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000
) -> dict[str, Any]:
    """All documents of the instance, newest first."""
    return {"documents": await app.library.listed(limit)}


@router.get("/{document_id}")
async def one(document_id: str, app: AppParts, user: CurrentUser) -> dict[str, Any]:
    """One document."""
    return await app.library.get(uuid_or_not_found(document_id, "document"))


@router.get("/{document_id}/file")
async def file(document_id: str, app: AppParts, user: CurrentUser) -> Response:
    """The original file, as a download."""
    document, content = await app.library.file(uuid_or_not_found(document_id, "document"))
    name = quote(document["name"], safe="")
    return Response(
        content,
        media_type=document["media_type"],
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
    )


@router.delete("/{document_id}", status_code=204)
async def delete(document_id: str, app: AppParts, user: CurrentUser) -> None:
    """Delete a document with all that was made of it."""
    await app.library.delete(uuid_or_not_found(document_id, "document"), user)
