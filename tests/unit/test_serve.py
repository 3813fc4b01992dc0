"""The pages and answers of `rayalign serve`, and who is let in."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from rayalign import cli
from rayalign.commands.serve import serve
from rayalign.commands.serving.app import make_app
from rayalign.commands.serving.events import Listeners
from rayalign.commands.serving.guard import Door
from rayalign.commands.serving.runs import Runs
from rayalign.errors import RunFolderError
from tests.unit.answer_query_cases import ANSWERS, APPLE, CASES, ELBOW, Case
from tests.unit.answer_runs import add_round, make_run_folder, scored

LOCAL = Door(None, loopback=True)
TOKEN = "a-token-of-the-test"
ODD = "odd <b> & 'name' é#?"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for name in ("one", "two", ODD):
        make_run_folder(root / name)
    make_run_folder(root / ".hidden")
    (root / "notes").mkdir()
    (root / "file.txt").write_text("no run")
    (root / "broken").mkdir()
    (root / "broken" / "config.yaml").write_text("a: [")
    (root / "stage").mkdir()
    (root / "stage" / "config.yaml").write_text("stage: sft\nrun: {name: x}\n")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "run"
    make_run_folder(elsewhere)
    (root / "link").symlink_to(elsewhere)
    (root / "loop").symlink_to(root / "loop")
    return root


def client_of(root: Path, door: Door = LOCAL, base: str = "http://127.0.0.1:8000") -> TestClient:
    app = make_app(Runs(str(root)), door, Listeners(poll_s=0.01), "runs")
    return TestClient(app, base_url=base, follow_redirects=False, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(root: Path) -> TestClient:
    return client_of(root)


def test_list(client: TestClient) -> None:
    found = client.get("/api/runs").json()
    assert [run["name"] for run in found] == ["broken", "odd <b> & 'name' é#?", "one", "two"]
    assert "config.yaml is not a run's" in found[0]["problem"] and found[0]["state"] == "unreadable"
    assert found[2] | {"headline": ""} == {
        "name": "one",
        "state": "done",
        "finished": 1,
        "rounds": 1,
        "headline": "",
        "alarms": [],
        "problem": None,
    }
    page = client.get("/")
    assert page.status_code == 200 and "<b>" not in page.text.split("<tbody>")[1].split("</tbody>")[0]
    assert f'href="runs/{quote(ODD, safe="")}"' in page.text.replace("&#39;", "%27")


def test_a_run_alone(root: Path) -> None:
    alone = client_of(root / "one")
    assert [run["name"] for run in alone.get("/api/runs").json()] == ["one"]
    assert alone.get("/runs/one").status_code == 200


@pytest.mark.parametrize("name", ["one", ODD])
def test_page(client: TestClient, name: str) -> None:
    page = client.get(f"/runs/{quote(name, safe='')}")
    assert page.status_code == 200
    data = page.text.split('id="rayalign-data">')[1].split("</script>")[0]
    assert json.loads(data) == {"mode": "serve", "run": name, "api": f"../api/runs/{quote(name, safe='')}"}
    policy = page.headers["content-security-policy"]
    assert "connect-src 'self'" in policy and "'sha256-" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


@pytest.mark.parametrize("case", CASES[::5], ids=lambda case: case.name)
def test_prompts(client: TestClient, case: Case) -> None:
    page = client.get("/api/runs/one/prompts", params=case.params).json()
    assert [row["id"] for row in page["rows"]] == case.ids


def test_facets_and_view(client: TestClient) -> None:
    assert client.get(f"/api/runs/{quote(ODD, safe='')}/facets").json()["total"] == {"evaluation": 5}
    view = client.get(f"/api/runs/one/prompts/{ELBOW}").json()
    assert view["messages"][0]["content"] == "<script>alert(1)</script>" and len(view["rounds"]) == 2
    assert client.get(f"/api/runs/one/prompts/{APPLE}", params={"purpose": "train"}).status_code == 404


def test_what_is_not_there(client: TestClient) -> None:
    for path in (
        "/runs/none",
        "/runs/.hidden",
        "/runs/stage",
        "/runs/link",
        "/runs/%2e%2e%2fetc",
        "/runs/one%2f..%2ftwo",
        "/runs/one/config.yaml",
        "/runs/one%00",
        "/api/runs/link/facets",
        "/api/runs/..%2f..%2fetc/facets",
        "/api/runs/one/prompts/..%2f..%2fconfig.yaml",
        "/api/runs/one/prompts/%00",
        "/docs",
        "/openapi.json",
        "/" + "a" * 20_000,
    ):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert "Traceback" not in answer.text
        if path.startswith("/api/"):
            assert "detail" in answer.json()
        else:
            assert "script-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "query",
    ["round=-1", "round=x", "sort=id", "min=nan", "status=x", "meta=x", "page=-1", "q=" + "x" * 2000, "size=1e9"],
)
def test_bad_values_are_told(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/runs/one/prompts?{query}")
    assert answer.status_code == 400 and "why:" in answer.json()["detail"]


@pytest.mark.parametrize("value", ["%00", "%ff%fe", "%F0%9F%98%80", "';--", "%25", "\u202e", "$purpose", "%ED%A0%80"])
@pytest.mark.parametrize("name", ["q", "scorer", "purpose", "unknown"])
def test_odd_values_are_values(client: TestClient, name: str, value: str) -> None:
    answer = client.get(f"/api/runs/one/prompts?{name}={value}&min=0")
    assert answer.status_code == 200 and set(answer.json()) == {"total", "page", "size", "rows"}


def test_an_unreadable_run_is_told_on_its_page(client: TestClient) -> None:
    for path in ("/runs/broken", "/api/runs/broken/facets", "/compare?run=broken&run=one"):
        answer = client.get(path)
        assert answer.status_code == 409 and "config.yaml" in answer.text and "Traceback" not in answer.text


def test_a_fault_of_ours_shows_no_inside(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        raise ZeroDivisionError("secret")

    runs = Runs(str(root))
    monkeypatch.setattr(runs, "summary", fails)
    client = TestClient(make_app(runs, LOCAL, Listeners()), base_url="http://localhost", raise_server_exceptions=False)
    for path in ("/", "/api/runs"):
        answer = client.get(path)
        assert answer.status_code == 500 and "secret" not in answer.text and "ZeroDivisionError" in answer.text


def test_compare(client: TestClient) -> None:
    page = client.get("/compare", params={"run": ["one", ODD]})
    assert page.status_code == 200 and "held-out prompts that two runs share" in page.text
    for chosen in ([], ["one"], ["one", "one"], ["one"] * 3):
        assert client.get("/compare", params={"run": chosen}).status_code == 400
    assert client.get("/compare", params={"run": ["one", "none"]}).status_code == 404


def test_a_committed_round_shows(tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path / "run", [one for one in ANSWERS if one.round == 0])
    client = client_of(tmp_path)
    assert client.get("/api/runs/run/facets").json()["rounds"] == {"evaluation": [0]}
    add_round(run_dir, 1, [scored(one) for one in ANSWERS if one.round == 1])
    assert client.get("/api/runs/run/facets").json()["rounds"] == {"evaluation": [0, 1]}


# -- who is let in


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_read_only(client: TestClient, method: str) -> None:
    answer = client.request(method, "/api/runs")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD"


def test_head(client: TestClient) -> None:
    for path in ("/", "/runs/one", "/api/runs", "/api/runs/one/facets", "/api/runs/one/events"):
        answer = client.head(path)
        assert answer.status_code == 200 and answer.content == b""


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_names_that_lead_here_are_not_answered_to(client: TestClient, host: str) -> None:
    assert client.get("/api/runs", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000", "127.1.2.3:1"])
def test_names_of_this_machine_are(client: TestClient, host: str) -> None:
    assert client.get("/api/runs", headers={"host": host}).status_code == 200


def test_every_answer_is_shut_off(client: TestClient) -> None:
    for path in ("/", "/runs/one", "/api/runs", "/none", "/api/none"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-frame-options"] == "DENY" and "server" not in headers


def test_token(root: Path) -> None:
    client = client_of(root, Door(TOKEN, loopback=False), "http://box.example:8000")
    for path in ("/", "/api/runs", f"/?token={TOKEN}x", "/?token=", "/?token=%ff"):
        assert client.get(path).status_code == 401
    assert client.get("/", headers={"cookie": "rayalign=wrong"}).status_code == 401
    assert client.get("/", headers={"cookie": b"rayalign=\xe9"}).status_code == 401
    assert client.get("/api/runs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/api/runs", headers={"authorization": "Bearer x"}).status_code == 401
    welcome = client.get(f"/runs/one?a=b%26c&token={TOKEN}")
    assert welcome.status_code == 303 and welcome.headers["location"] == "/runs/one?a=b%26c"
    cookie = welcome.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert client.get("/runs/one").status_code == 200
    assert client.get(f"http://box.example:8000//evil.example/?token={TOKEN}").headers["location"] == "/evil.example/"


def test_a_token_is_asked_for_on_loopback_too_where_one_is_given(root: Path) -> None:
    assert client_of(root, Door(TOKEN, loopback=True)).get("/api/runs").status_code == 401


# -- events


def events(listeners: Listeners, runs: Runs, name: str, act: list[Callable[[], object]]) -> list[dict]:
    """What a page hears: at first, and after each act."""

    async def listen() -> list[dict]:
        heard = []
        source = listeners.changes(runs, name)
        async for text in source:
            kind, data = text.split("\n")[:2]
            assert kind == "event: changed"
            heard.append(json.loads(data.removeprefix("data: ")))
            if not act:
                listeners.end()
            else:
                act.pop(0)()
        return heard

    return asyncio.run(asyncio.wait_for(listen(), 60))


def test_events(tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path / "run", [one for one in ANSWERS if one.round == 0])
    later = [scored(one) for one in ANSWERS if one.round == 1]
    heard = events(
        Listeners(poll_s=0.05),
        Runs(str(tmp_path)),
        "run",
        [
            lambda: run_dir.round(1).commit_shard("evaluation", 0, later),
            lambda: add_round(run_dir, 1, later),
        ],
    )
    assert [one["rounds"] for one in heard] == [0, 0, 1] and heard[-1]["state"] == "done"


def test_events_of_a_run_that_goes_away(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run")
    heard = events(Listeners(poll_s=0.05), Runs(str(tmp_path)), "run", [(tmp_path / "run" / "config.yaml").unlink])
    assert heard[0]["state"] == "done" and heard[1]["state"] == "unreadable"


def test_only_so_many_may_listen(root: Path) -> None:
    app = make_app(Runs(str(root)), LOCAL, Listeners(most=0))
    answer = TestClient(app, base_url="http://127.0.0.1").get("/api/runs/one/events")
    assert answer.status_code == 503 and "close one" in answer.json()["detail"]


# -- the command


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("empty", "missing"):
        assert cli.exit_code(["serve", str(tmp_path / place)]) == 2
        assert "holds no run" in capsys.readouterr().err


def test_port_in_use(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.exit_code(["serve", str(root), "--port", str(taken.getsockname()[1])]) == 2
    assert "the server cannot listen there" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["no.such.host.invalid", "", "a" * 300, "256.1.1.1"])
def test_no_such_host(root: Path, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["serve", str(root), "--host", host or "\x00", "--port", "0"]) == 2
    assert "error: --host" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["", "short", "é" * 20, "with\nnewline in it"])
def test_a_guessable_token_is_refused(root: Path, token: str) -> None:
    if token:
        assert cli.exit_code(["serve", str(root), "--port", "0", "--token", token]) == 2


def test_a_single_run_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: [")
    runs = Runs(str(tmp_path))
    assert runs.summary(tmp_path.name).state == "unreadable"
    with pytest.raises(RunFolderError):
        runs.run(tmp_path.name)
    assert os.listdir(tmp_path) == ["config.yaml"] and callable(serve)
