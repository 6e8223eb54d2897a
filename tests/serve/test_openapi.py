"""Whatever the OpenAPI document allows, and much that it does not, is answered, and never with a mistake of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest

schemathesis = pytest.importorskip("schemathesis", reason="SKIPPED FOR WANT OF SCHEMATHESIS: no made-up requests")

ENDLESS = "/v1/feed"
EXAMPLES = 25


def test_nothing_that_is_made_up_breaks_the_service(started: Callable[..., Any]) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    asked: dict[str, set[int]] = {}
    with started() as service:
        schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
        for found in schema.exclude(path=ENDLESS).get_all_operations():
            operation = found.ok()

            @hypothesis.given(case=operation.as_strategy())
            @hypothesis.settings(
                max_examples=EXAMPLES, database=None, suppress_health_check=list(hypothesis.HealthCheck)
            )
            def ask(case: Any) -> None:
                answer = case.call(timeout=120)
                case.validate_response(answer, checks=checks)
                asked.setdefault(case.operation.path, set()).add(answer.status_code)

            ask()
        assert asked["/healthz"] == {200}
        assert set(asked) == {
            "/v1/classify", "/v1/events", "/v1/embed", "/v1/models", "/healthz", "/readyz", "/metrics",
        }  # fmt: skip
        assert 422 in asked["/v1/classify"]
