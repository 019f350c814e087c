"""The paths of BigQuery's REST API that the peer answers."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request
from fastapi.responses import JSONResponse

from tests.support.bigquery_peer.jobs import PAGE_ROWS_MAX, PeerJobs
from tests.support.bigquery_peer.project import Project
from tests.support.bigquery_peer.wire import Json, WireError

BASE = "/bigquery/v2/projects/{project}"

# What jobs.query carries beside the query itself, and where it belongs in a job's configuration.
_QUERY_FIELDS = ("query", "queryParameters", "parameterMode", "useLegacySql", "maximumBytesBilled", "defaultDataset")

Payload = Annotated[dict[str, Any], Body()]
Start = Annotated[int, Query(alias="startIndex")]
Rows = Annotated[int, Query(alias="maxResults")]
Token = Annotated[str, Query(alias="pageToken")]
Timeout = Annotated[int, Query(alias="timeoutMs")]


def create_app(project_of: Callable[[str], Project]) -> FastAPI:
    """Make the application over projects by name."""
    app = FastAPI(title="BigQuery peer", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(WireError)
    def say(_request: Request, error: WireError) -> JSONResponse:
        return JSONResponse(error.body, status_code=error.status)

    @app.exception_handler(Exception)
    def fail(_request: Request, error: Exception) -> JSONResponse:
        # A fault of the peer itself: said in a way that no client repeats.
        return JSONResponse(WireError("invalid", f"the peer failed: {error!r}").body, status_code=400)

    _add_jobs(app, project_of)
    _add_datasets(app, project_of)
    _add_tables(app, project_of)
    return app


def _add_jobs(app: FastAPI, project_of: Callable[[str], Project]) -> None:
    @app.post(f"{BASE}/jobs")
    def insert(project: str, body: Payload) -> JSONResponse:
        job_id = body.get("jobReference", {}).get("jobId")
        return JSONResponse(project_of(project).jobs.insert(body["configuration"], job_id))

    @app.get(BASE + "/jobs/{job_id}")
    def get(project: str, job_id: str) -> JSONResponse:
        return JSONResponse(project_of(project).jobs.get(job_id))

    @app.post(BASE + "/jobs/{job_id}/cancel")
    def cancel(project: str, job_id: str) -> JSONResponse:
        return JSONResponse(project_of(project).jobs.cancel(job_id))

    @app.post(f"{BASE}/queries")
    def query(project: str, body: Payload) -> JSONResponse:
        return JSONResponse(_query(project_of(project).jobs, body))

    @app.get(BASE + "/queries/{job_id}")
    def results(
        project: str,
        job_id: str,
        rows_max: Rows = PAGE_ROWS_MAX,
        start: Start = 0,
        token: Token = "",
        timeout_ms: Timeout = 10_000,
    ) -> JSONResponse:
        found = project_of(project).jobs.results(
            job_id, rows_max=rows_max, start=int(token or start), timeout_s=timeout_ms / 1000
        )
        return JSONResponse(found)


def _query(jobs: PeerJobs, body: Json) -> Json:
    """Answer jobs.query: a job with an id of the server's, and the first page of its rows."""
    query = {name: body[name] for name in _QUERY_FIELDS if name in body}
    dry_run = body.get("dryRun", False)
    job = jobs.insert({"query": query, "labels": body.get("labels", {}), "dryRun": dry_run}, None)
    if dry_run:
        processed = job["statistics"]["query"]["totalBytesProcessed"]
        return {"jobComplete": True, "totalBytesProcessed": processed, "schema": {"fields": []}}
    return jobs.results(
        job["jobReference"]["jobId"],
        rows_max=body.get("maxResults", PAGE_ROWS_MAX),
        start=0,
        timeout_s=body.get("timeoutMs", 10_000) / 1000,
    )


def _add_datasets(app: FastAPI, project_of: Callable[[str], Project]) -> None:
    @app.get(f"{BASE}/datasets")
    def list_all(project: str) -> JSONResponse:
        return JSONResponse({"kind": "bigquery#datasetList", "datasets": project_of(project).datasets()})

    @app.post(f"{BASE}/datasets")
    def insert(project: str, body: Payload) -> JSONResponse:
        return JSONResponse(project_of(project).insert_dataset(body))

    @app.get(BASE + "/datasets/{dataset}")
    def get(project: str, dataset: str) -> JSONResponse:
        return JSONResponse(project_of(project).dataset(dataset))

    @app.delete(BASE + "/datasets/{dataset}")
    def delete(
        project: str, dataset: str, contents: Annotated[str, Query(alias="deleteContents")] = "false"
    ) -> JSONResponse:
        project_of(project).delete_dataset(dataset, with_tables=contents == "true")
        return JSONResponse({})


def _add_tables(app: FastAPI, project_of: Callable[[str], Project]) -> None:
    path = BASE + "/datasets/{dataset}/tables"

    @app.get(path)
    def list_all(project: str, dataset: str) -> JSONResponse:
        found = project_of(project).tables(dataset)
        return JSONResponse({"kind": "bigquery#tableList", "tables": found, "totalItems": len(found)})

    @app.post(path)
    def insert(project: str, dataset: str, body: Payload) -> JSONResponse:
        return JSONResponse(project_of(project).insert_table(dataset, body))

    @app.get(path + "/{table}")
    def get(project: str, dataset: str, table: str) -> JSONResponse:
        return JSONResponse(project_of(project).table(dataset, table))

    @app.post(path + "/{table}:testIamPermissions")
    def permissions(project: str, dataset: str, table: str, body: Payload) -> JSONResponse:
        return JSONResponse(project_of(project).permissions(dataset, table, body["permissions"]))

    @app.delete(path + "/{table}")
    def delete(project: str, dataset: str, table: str) -> JSONResponse:
        project_of(project).delete_table(dataset, table)
        return JSONResponse({})

    @app.get(path + "/{table}/data")
    def rows(
        project: str, dataset: str, table: str, rows_max: Rows = PAGE_ROWS_MAX, start: Start = 0, token: Token = ""
    ) -> JSONResponse:
        return JSONResponse(project_of(project).rows(dataset, table, start=int(token or start), rows_max=rows_max))
