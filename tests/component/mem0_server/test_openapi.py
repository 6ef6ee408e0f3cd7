"""Every operation of the OpenAPI document, called with what its types allow and do not allow."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

KEY = "mk_component-test-key-1234567890"
FACT = {"memory": [{"id": "0", "text": "drinks green tea", "attributed_to": "user"}]}


def answered(client: httpx.Client) -> int:
    """How many requests the server has answered, by its own count."""
    text = client.get("/metrics").text
    return sum(int(float(n)) for n in re.findall(r"^mem0_http_requests_total.* (\S+)$", text, re.M))


@pytest.mark.parametrize(
    ("examples", "cases"),
    [
        pytest.param(5, 500, id="quick"),
        pytest.param(300, 5000, id="thorough", marks=[pytest.mark.full, pytest.mark.timeout(1800)]),
    ],
)
def test_no_call_breaks_the_server_or_its_own_description(
    examples: int,
    cases: int,
    spawn: Callable[..., Any],
    scripted_ollama: Any,
    tmp_path: Path,
    wait: Callable[..., Any],
) -> None:
    scripted_ollama.answer = json.dumps(FACT)
    server = spawn(OLLAMA_BASE_URL=scripted_ollama.url, LLM_MODEL="chat-model")
    status = "/status"
    wait(lambda: server.client.get(status).json()["embeddings"]["status"] == "ok", "the index", 60)
    options = {
        "header": f"X-API-Key: {KEY}",
        "max-examples": examples,
        "seed": 4,
        "checks": "all",
        # What a schema cannot say is refused: a NUL deep in an object, a memory of nobody.
        "exclude-checks": "positive_data_acceptance",
        "request-timeout": 20,
        "suppress-health-check": "all",
    }
    command = [Path(sys.executable).with_name("st"), "run", f"{server.url}/openapi.json"]
    done = subprocess.run(
        [
            *command,
            "--continue-on-failure",
            *(f"--{name}={value}" for name, value in options.items()),
        ],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "160"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert answered(server.client) >= cases
    assert server.popen.poll() is None
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "request_failed" not in log
