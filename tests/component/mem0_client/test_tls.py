"""A memory server that speaks TLS, with a certificate that only TLS_CA_DIR vouches for."""

import asyncio
import shutil
import ssl
from types import SimpleNamespace

import httpx
import pytest

from app.dev.servers import mem0_server
from app.rag.memory import UserMemory
from tests.component.tls_door import self_signed


@pytest.fixture
def over_tls(postgres_dsn_factory, free_port, scripted_ollama, tmp_path, make_key, eventually):
    """A server of its own that speaks TLS: its URL, its key, and whom to trust."""
    certificate, private = self_signed(tmp_path, "mem0")
    authorities, keys = tmp_path / "authorities", tmp_path / "keys"
    for folder in (authorities, keys):
        folder.mkdir()
    shutil.copy(certificate, authorities / "ca.crt")
    key = make_key()
    (keys / "current").write_text(key)
    server = mem0_server(
        free_port(), tmp_path / "mem0.log", dsn=postgres_dsn_factory("mem0"), keys=keys,
        ollama_url=scripted_ollama.url, models=("chat-model", "embed-model"),
        scratch=tmp_path / "scratch", TLS_CERT_FILE=str(certificate), TLS_KEY_FILE=str(private),
    )  # fmt: skip
    server.prepare()
    server.begin()
    url = server.url.replace("http:", "https:")

    context = ssl.create_default_context(cafile=str(certificate))

    def is_up():
        try:
            return httpx.get(f"{url}/ready", verify=context).is_success
        except httpx.TransportError:
            return False

    eventually(is_up, 60)
    yield SimpleNamespace(url=url, key=key, authorities=authorities)
    server.stop()


async def test_it_is_trusted_by_whoever_asks_it(over_tls, memory_at, soon):
    """By the calls, by what asks whether it is frozen or ready, and by what asks if it is back."""
    memory = memory_at(over_tls, tls_ca_dir=over_tls.authorities, memory_time_limit=10.0)
    user_memory = UserMemory(memory.SETTINGS)
    assert await asyncio.to_thread(memory.store_message, "ada", "user", "hello")
    assert await user_memory.state() == ("ok", "ready")
    memory.leave_alone()
    assert memory.is_left_alone()
    await soon(lambda: not memory.is_left_alone())
    recollection = await user_memory.recollect("ada", ())
    assert (recollection.status, [t.content for t in recollection.history]) == ("ok", ["hello"])
    await user_memory.close()
