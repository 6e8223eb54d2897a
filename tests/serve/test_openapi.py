"""Whatever the OpenAPI document allows, and much that it does not, is answered, and never with a mistake of ours."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
import pytest

from soundmark.serve.app import create_app
from soundmark.serve.models import Served
from soundmark.serve.settings import Settings

schemathesis = pytest.importorskip(
    "schemathesis", reason="SKIPPED FOR WANT OF SCHEMATHESIS: the document is not tested"
)

OPERATIONS = ("/v1/classify", "/v1/events", "/v1/embed", "/v1/models", "/healthz", "/readyz", "/metrics")


@pytest.mark.parametrize("path", OPERATIONS)
def test_nothing_breaks_the_service(path: str, loud: Served, small: Callable[..., Settings]) -> None:
    from fastapi.testclient import TestClient
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    app = create_app([loud], small(hosts=()))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    with TestClient(app) as client:
        for operation in schema.include(path=path).get_all_operations():
            cases = operation.ok().as_strategy()

            @hypothesis.given(case=cases)
            @hypothesis.settings(
                max_examples=25, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
            )
            def ask(case: object) -> None:
                case.call_and_validate(session=client, checks=checks)  # type: ignore[attr-defined]

            ask()
