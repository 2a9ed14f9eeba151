"""Who may speak to the server, and that nothing outside its folders can be read."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from glasshouse.web import create_app
from glasshouse.web.page import page_routes
from glasshouse.web.security import TOKEN_HEADER, host_is_ours
from tests.web.conftest import ADDRESS

TRY = {"features": "tiny-resid.2", "text": "x"}


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8421", True),
        ("127.0.0.1", True),
        ("localhost:9000", True),  # a tunnel
        ("[::1]:8421", True),
        ("evil.example:8421", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example@127.0.0.1", False),
        ("127.0.0.1:8421:3", False),
        ("127.0.0.1/evil.example", False),
        ("192.168.0.7:8421", False),
        ("", False),
        ("[", False),
    ],
)
def test_which_hosts_are_ours(host: str, ours: bool) -> None:
    assert host_is_ours(host) is ours


def test_bound_outside_any_address_will_do_but_no_strange_name() -> None:
    assert host_is_ours("192.168.0.7:8421", "0.0.0.0")
    assert host_is_ours("box.local:8421", "box.local")
    assert not host_is_ours("evil.example", "0.0.0.0")


@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/assets/x.js", "/nowhere"])
def test_a_foreign_host_is_refused(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"host": "evil.example"})
    assert answer.status_code == 421 and "Host" in answer.json()["error"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:8421"])
def test_a_foreign_origin_is_refused_even_with_the_token(client: TestClient, origin: str) -> None:
    headers = {"origin": origin, TOKEN_HEADER: client.app.state.token}
    assert client.get("/api/v1/status", headers=headers).status_code == 403
    assert client.post("/api/v1/try", json=TRY, headers=headers).status_code == 403


def test_other_sites_may_not_embed_the_api(client: TestClient) -> None:
    assert client.get("/api/v1/status", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.get("/api/v1/status", headers={"sec-fetch-site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/try", "/api/v1/steer", "/api/v1/strengths"])
def test_work_needs_the_token(client: TestClient, path: str) -> None:
    assert client.post(path, json=TRY).status_code == 403
    assert client.post(path, json=TRY, headers={TOKEN_HEADER: "x" * 43}).status_code == 403
    answer = client.post(path, json={}, headers={TOKEN_HEADER: client.app.state.token, "origin": ADDRESS})
    assert answer.status_code == 400  # past the guard; the body is wrong


def test_two_servers_have_two_tokens(evidence) -> None:
    tokens = {create_app(evidence).state.token for _ in range(2)}
    assert len(tokens) == 2 and min(map(len, tokens)) >= 32


def test_a_body_too_large_is_not_read(client: TestClient) -> None:
    headers = {TOKEN_HEADER: client.app.state.token}
    answer = client.post("/api/v1/try", content=b"x" * ((1 << 20) + 1), headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/features/..",
        "/api/v1/features/../../etc/passwd",
        "/api/v1/features/%2e%2e%2f%2e%2e%2fetc",
        "/api/v1/features/..%5c..",
        "/api/v1/features/.tiny-resid.2.partial",
        "/api/v1/dictionaries/..%2f..%2fsecret/report",
        "/api/v1/metrics/..%2fmodels/x",
        "/api/v1/metrics/locks/x",
        "/api/v1/metrics/models/%2e%2e",
        "/assets/..%2f..%2fserver.py",
        "/assets/%2e%2e/%2e%2e/server.py",
        "/assets/%2fetc%2fpasswd",
        "/%2fetc%2fpasswd",
    ],
)
def test_no_path_leads_outside(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404, 405), (path, answer.text[:100])
    assert "root:" not in answer.text and "def create_app" not in answer.text


def test_a_link_out_of_the_static_folder_is_not_followed(tmp_path) -> None:
    from starlette.applications import Starlette

    (tmp_path / "secret").write_text("secret")
    assets = tmp_path / "static" / "assets"
    assets.mkdir(parents=True)
    (assets / "link").symlink_to(tmp_path / "secret")
    (assets / "real.js").write_text("1")
    client = TestClient(Starlette(routes=page_routes("t", tmp_path / "static")))
    assert client.get("/assets/real.js").text == "1"
    assert client.get("/assets/link").status_code == 404


@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/api/v1/features/nope", "/assets/nope.js"])
def test_every_answer_carries_the_policy(client: TestClient, path: str) -> None:
    policy = client.get(path).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert client.get(path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "search", ["'", "';--", '" OR 1=1 --', "%", "_", "\\", "' UNION SELECT * FROM read_csv('/etc/passwd') --"]
)
def test_what_is_searched_is_text_and_not_sql(client: TestClient, search: str) -> None:
    answer = client.get("/api/v1/features/tiny-resid.2", params={"search": search})
    assert answer.status_code == 200 and answer.json()["total"] < 64
    for key in ("kind", "flag", "sort"):
        answer = client.get("/api/v1/features/tiny-resid.2", params={key: search})
        assert answer.status_code in (200, 400) and not answer.json().get("rows")
