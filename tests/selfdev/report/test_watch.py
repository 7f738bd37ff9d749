"""`report --watch`: a page that grows, on this machine only, for browsers that name it rightly."""

from __future__ import annotations

import http.client
import shutil
import socket
import sqlite3
import struct
import threading
import time

import pytest
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.report.page import data_of
from selfdev_engine.selfdev.report.serve import ReportServer


@pytest.fixture
def served(loop, tmp_path):
    folder = shutil.copytree(loop, tmp_path / "run")
    with ReportServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, server
        server.shutdown()
        thread.join()


def ask(server, path="/", method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{server.server_port}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def test_it_shows_what_was_written_since(served):
    folder, server = served
    assert server.server_address[0] == "127.0.0.1"
    _, version = ask(server, "/version")
    answer, page = ask(server)
    assert answer.status == 200 and f'data-watch="{version}"' in page
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    with Store.open(folder / "run.db") as store, store.transaction():
        store.add_candidates([{"id": "late", "source": "..."}])
    assert ask(server, "/version")[1] != version
    assert "late" in data_of(ask(server)[1])["candidates"]["id"]
    assert not (folder / "report.html").exists()


def test_it_refuses_other_names_and_places(served):
    """A page of another site that is led here names its own host."""
    _, server = served
    port = server.server_port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port}.evil",
        "localhost:1",
    ):
        for path in ("/", "/version"):
            answer, text = ask(server, path, host=host)
            assert answer.status == 403 and "<" not in text
    assert ask(server, host=f"localhost:{port}")[0].status == 200
    for path in ("/run.db", "/../run.db", "/?x", "/config.yaml"):
        assert ask(server, path)[0].status == 404
    assert ask(server, method="POST")[0].status == 501
    assert ask(server, method="HEAD")[1] == ""


def test_a_browser_that_leaves_amid_the_page_prints_nothing(served, capfd):
    """With a reset in place of an end, which makes the write of the page fail."""
    _, server = served
    ask(server)
    with socket.create_connection(("127.0.0.1", server.server_port)) as left:
        left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        left.recv(1)
    ask(server, "/version")
    time.sleep(0.2)
    assert capfd.readouterr().err == ""


def test_a_database_that_breaks_amid_the_run_is_told_to_the_browser(served, capfd):
    folder, server = served
    data = bytearray((folder / "run.db").read_bytes())
    data[4096:] = b"\xff" * len(data[4096:])
    (folder / "run.db").write_bytes(data)
    answer, text = ask(server)
    assert answer.status == 503 and "malformed" in text
    assert capfd.readouterr().err == ""


def test_a_run_that_is_damaged_already_is_not_served(selfdev, loop, tmp_path):
    folder = shutil.copytree(loop, tmp_path / "run")
    with Store.open(folder / "run.db") as store:
        store._db.execute("UPDATE scores SET score = 'abc'")
    answer = selfdev("report", folder, "--watch", timeout_s=60)
    assert answer.code == 2 and "table scores, column score" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_damage_amid_the_run_is_told_once_and_a_page_comes_again(served):
    folder, server = served
    told = list[str]()
    server._tell = told.append
    with Store.open(folder / "run.db") as store:
        (right,) = store._db.execute(
            "SELECT score FROM scores WHERE candidate = 'base' AND split = 'dev'"
        ).fetchone()
        store._db.execute(
            "UPDATE scores SET score = 'abc' WHERE candidate = 'base' AND split = 'dev'"
        )
    for _ in range(2):
        answer, text = ask(server)
        assert answer.status == 503 and "table scores, column score" in text
    assert len(told) == 1 and "run.db is damaged" in told[0]
    with sqlite3.connect(folder / "run.db") as db:
        db.execute(
            "UPDATE scores SET score = ? WHERE candidate = 'base' AND split = 'dev'", (right,)
        )
    assert ask(server)[0].status == 200


def test_a_browser_is_told_of_new_results(served, view):
    folder, server = served
    seen = view(server.url)
    assert seen.tab.locator("#news").is_hidden()
    with Store.open(folder / "run.db") as store, store.transaction():
        store.add_candidates([{"id": "late", "source": "..."}])
    seen.tab.get_by_role("button", name="Show them").click(timeout=15000)
    seen.tab.get_by_text("29 rows", exact=True).wait_for()
    asked = {word for word in seen.said if word.startswith("http")}
    assert asked <= {f"{server.url}version", f"{server.url}favicon.ico"}


@pytest.mark.parametrize(
    ("words", "culprit"),
    [(("--watch", "--out", "x.html"), "--out x.html"), (("--port", "80"), "--port 80")],
)
def test_what_does_not_go_together_is_refused(selfdev, loop, words, culprit):
    answer = selfdev("report", loop, *words)
    assert answer.code == 2 and culprit in answer.stderr
