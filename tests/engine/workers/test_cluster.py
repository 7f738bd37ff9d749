"""Workers on the nodes of a Ray cluster: two nodes on this machine, and what is known without one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from selfdev_engine.engine.errors import EngineGone, UsageError, WorkerLost
from selfdev_engine.engine.resident.messages import PLACES, EngineSettings
from selfdev_engine.engine.screening.inputs import default_workers
from selfdev_engine.engine.screening.nodes import NodeCheck
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.engine.workers import cluster
from selfdev_engine.engine.workers.cluster import Cluster, Objects, RayLine, Slots, connect
from selfdev_engine.engine.workers.host import Host, versions_here

NODES = Path(__file__).with_name("ray_nodes.py")
SVD = """
import torch
def merge_models(model_dict, device):
    a, b = model_dict.values()
    u, s, v = torch.linalg.svd(a.float(), full_matrices=False)
    return {0} * ((u[:, :2] * s[:2]) @ v[:2]) + 0.1 * b
"""
PLAIN = "def merge_models(d, device):\n    a, b = d.values()\n    return {0} * a + b\n"
SUM = "def merge_models(d, device):\n    a, b = d.values()\n    return {0:.2f} * a + {1:.2f} * b\n"
SETTINGS = EngineSettings(engine="transformers").to_json()


# ---- without a cluster


def test_who_watched_a_head_that_was_left_does_not_end_the_next_connection(monkeypatch):
    """It was waiting for the old head when that was left, and another one was connected to."""
    watched = Cluster.__new__(Cluster)
    watched._left, lost = threading.Event(), list[str]()

    def answers(head: tuple[str, int]) -> bool:
        watched._left.set()
        watched._left = threading.Event()
        return False

    monkeypatch.setattr(cluster, "LOOK_S", 0.0)
    monkeypatch.setattr(cluster, "HEAD_S", -1.0)
    monkeypatch.setattr(cluster, "answers", answers)
    monkeypatch.setattr(watched, "_lose", lambda: lost.append("lost"))
    watch = threading.Thread(target=watched._watch, args=[("old", 1), watched._left], daemon=True)
    watch.start()
    watch.join(5.0)
    assert lost == [] and not watch.is_alive()


@pytest.mark.parametrize(
    ("slots", "workers", "threads", "places"),
    [
        (Slots(16, 8, 128, 2, 64), 16, 8, 16),
        (Slots(0, 0, 8, 2, 4), 2, 4, 2),
        (Slots(0, 0, 8, 2, 4), 8, 1, 8),
        (Slots(0, 0, 8, 2, 4), 1, 4, 2),
        (Slots(0, 0, 2, 2, 1), 9, 1, 2),
    ],
)
def test_places_are_gpus_or_else_equal_shares_of_the_cores(slots, workers, threads, places):
    assert slots.threads(workers, {}) == threads
    assert slots.threads(workers, {"OMP_NUM_THREADS": "3"}) == 3
    assert slots.places(threads) == places
    assert slots.default_workers == (slots.gpus or 2)


@pytest.fixture
def host(monkeypatch, tmp_path) -> Iterator[Host]:
    """A host in this process; its worker runs transformers."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    host = Host(SETTINGS)
    yield host
    host.close()
    assert not list(tmp_path.glob("selfdev-copies-*"))


def test_a_host_passes_messages_on_and_says_what_was_lost(host, small_models, tmp_path):
    (tmp_path / "probe").write_text("word")
    about = host.about(str(tmp_path / "probe"), "word")
    assert about["shares"] and about["versions"]["torch"]
    # Ray numbers cards by the bus, and CUDA does not where it is not told.
    environ, until = Path(f"/proc/{about['pid']}/environ"), time.monotonic() + 20
    # It is empty for a moment, while the process becomes another program.
    while not (told := environ.read_bytes()) and time.monotonic() < until:
        time.sleep(0.05)
    assert b"CUDA_DEVICE_ORDER=" in told
    assert not host.about(str(tmp_path / "probe"), "other")["shares"]
    assert not host.about(str(tmp_path / "absent"), "word")["shares"]
    words = {"key": "target", "folder": str(small_models / "base")}
    opened = host.ask({"id": 1, "method": "open_model", "params": words}, b"", ())
    assert opened["id"] == 1 and opened["value"]["weights_fingerprint"]
    os.kill(about["pid"], 9)
    lost = host.ask({"id": 2, "method": "restore", "params": {"key": "target"}}, b"", ())
    assert lost["lost"].startswith("the engine's process ended; its last words:")


def test_files_that_a_call_names_are_copied_once_and_removed_with_the_next(host, monkeypatch):
    asked = []
    monkeypatch.setattr(host._process, "send", lambda header, payload: asked.append(header))
    monkeypatch.setattr(host._process, "receive", lambda timeout_s: {})
    host.ask({"method": "sample"}, b"", ["/g/a", "/g/b", "/u/c"], b"A", b"B", b"")
    host.ask({"method": "score"}, b"", ())
    first = asked[0][PLACES]
    texts = {name: Path(first[name]).read_text() for name in ("/g/a", "/g/b", "/u/c")}
    assert texts == {"/g/a": "A", "/g/b": "B", "/u/c": ""} and PLACES not in asked[1]
    assert Path(first["/g"]) == Path(first["/g/a"]).parent == Path(first["/g/b"]).parent
    host.ask({"method": "sample"}, b"", ["/v/d", "/g/a"], b"D")
    assert Path(asked[2][PLACES]["/g/a"]).read_text() == "A"
    assert not Path(first["/g/b"]).exists() and Path(asked[2][PLACES]["/v/d"]).exists()


def test_other_contents_under_the_same_path_are_named(small_models):
    settings = ScreenSettings(str(small_models / "base"), {"x": str(small_models / "x")}, "t")
    check, asked = NodeCheck(settings), []

    def node(name: str, **changed: dict[str, str]):
        def open_contents(places):
            asked.append(name)
            return {role: parts | changed.get(role[:4], {}) for role, parts in here.items()}

        return SimpleNamespace(node=name, open_contents=open_contents)

    here = check._read_here()
    assert set(here) == {"base", "expert x"} and {"config.json", "weights"} <= set(here["base"])
    check.check(node("one"))  # type: ignore[arg-type]
    check.check(node("one"))  # type: ignore[arg-type]
    assert asked == ["one"]
    with pytest.raises(UsageError, match=r"node two: expert x \(.*\) has other weights there"):
        check.check(node("two", expe={"weights": "nh-0"}))  # type: ignore[arg-type]


class Remote:
    """An actor whose methods answer at once; it notes what it was asked."""

    def __init__(self, versions: dict[str, str], shares: bool, reply: dict) -> None:
        self.asked = []
        about = {"node": "n1", "pid": 7, "versions": versions, "shares": shares}
        self.about = SimpleNamespace(remote=lambda probe, token: about)
        self.ask = SimpleNamespace(remote=lambda *words: self.asked.append(words) or reply)


@pytest.fixture
def line(tmp_path):
    """line(shares, reply, ...) -> (the driver's end of a worker on a node, the actor)."""
    cluster = SimpleNamespace(get=lambda ref: ref, object_of=lambda name: f"contents of {name}")

    def make(shares=False, reply=None, **versions):
        settings = EngineSettings(engine="transformers")
        actor = Remote(versions_here("transformers") | versions, shares, reply or {"id": 1})
        return RayLine(cluster, actor, settings, tmp_path), actor  # type: ignore[arg-type]

    return make


def test_a_node_gets_the_files_that_it_has_no_copy_of(line, tmp_path):
    there, actor = line()
    for files in (["/g/a", "/g/b"], [], ["/g/a", "/g/b"], ["/g/a", "/u/c"]):
        there.send({"method": "sample"}, b"plan", files)
        assert there.receive(1.0) == {"id": 1} and there.node == "n1"
    sent = [words[2:] for words in actor.asked]
    first = (["/g/a", "/g/b"], "contents of /g/a", "contents of /g/b")
    assert sent == [first, ([],), (["/g/a", "/g/b"],), (["/u/c", "/g/a"], "contents of /u/c")]
    sharing, actor = line(shares=True)
    sharing.send({"method": "sample"}, b"plan", ["/g/a"])
    assert actor.asked == [({"method": "sample"}, b"plan", [])]
    assert sharing.receive(1.0) and not list(tmp_path.iterdir())


def test_files_become_objects_once_and_go_with_their_folder(tmp_path):
    made, objects = [], Objects()

    def put(content):
        made.append(bytes(memoryview(content)))
        return len(made)

    def of(name: str) -> int:
        return objects.of(str(tmp_path / name), put)

    for name in ("a/1", "a/2", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name.replace("a/2", ""))
    assert [of("a/1"), of("a/2"), of("a/1")] == [1, 2, 1]
    assert [of("b/1"), of("a/1")] == [3, 4]
    (tmp_path / "a/1").write_text("other")
    assert of("a/1") == 5
    assert made == [b"a/1", b"", b"b/1", b"a/1", b"other"]


def test_a_worker_that_is_lost_stays_lost(line):
    there, actor = line(reply={"lost": "it ended"})
    there.send({"method": "score"})
    there.send({"method": "score"})
    with pytest.raises(WorkerLost, match="on node n1: it ended"):
        there.receive(1.0)
    there.send({"method": "score"})
    with pytest.raises(EngineGone):
        there.receive(1.0)
    assert len(actor.asked) == 2 and not there.is_alive


def test_a_node_with_another_version_is_named(line):
    there, _ = line(torch="1.0")
    there.send({"method": "open_model"})
    with pytest.raises(UsageError, match=r"node n1: torch is 1\.0 there and .* here; install"):
        there.receive(1.0)


@pytest.mark.parametrize(
    "address", ["local", "head", "head:0", "head:70000", "ray://a:1", " a:1", ""]
)
def test_an_address_is_a_host_with_a_port(address):
    with pytest.raises(UsageError, match=r"write HOST:PORT of a cluster's head, or auto"):
        connect(address)


def test_an_address_where_nothing_answers_is_one_line():
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match=r"--address 127\.0\.0\.1:9: nothing answers there"):
        default_workers("127.0.0.1:9")


# ---- two nodes on this machine


class Nodes:
    """A cluster in a process of its own."""

    def __init__(self) -> None:
        self.process = started([NODES])
        self.address = said(self.process)
        self.do("add")

    def do(self, what: str) -> None:
        tell(self.process, what)
        while said(self.process) != "done":
            pass

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(120)


def started(words: list[object]) -> subprocess.Popen[str]:
    """Start a script of this folder, with one thread in each worker."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        [sys.executable, "-P", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        pytest.fail(f"it ended: {process.communicate(timeout=60)[1][-3000:]}")
    return line.strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray")
    made = Nodes()
    yield made
    made.end()


@pytest.fixture
def screen(small_models, tmp_path):
    """screen(programs, address, workers, stops, apart, head_s, ...) -> the process that screens them."""

    def run(programs, address=None, workers=1, stops=(), apart=False, head_s=60.0, **more):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        settings = {
            "base": str(small_models / "base"),
            "experts": {"x": str(small_models / "x"), "y": str(small_models / "y")},
            "task": f"jsonl:{small_models / 'task.jsonl'}",
            "engine": "transformers",
            "workers": workers,
            "address": address,
            **more,
        }
        asked = {"settings": settings, "programs": programs, "stops": list(stops), "apart": apart}
        rest = {"folder": str(folder), "head_s": head_s}
        (folder / "asked.json").write_text(json.dumps(asked | rest))
        return started([NODES.with_name("ray_screen.py"), folder / "asked.json"])

    return run


def result_of(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.split("rows ", 1)[1])


def mixed(count: int) -> dict[str, str]:
    """Programs whose updates kernels compute, and every third by torch, into a file."""
    return {f"p{i}": (SVD if i % 3 == 0 else PLAIN).format(1 + i / 20) for i in range(count)}


@pytest.mark.slow
def test_two_nodes_give_the_counts_of_one_worker_and_a_dead_node_costs_nothing(nodes, screen):
    """Nodes here get copies of files. One dies under a candidate, and one that joins takes its place."""
    programs = mixed(18)
    calm = result_of(screen(programs))
    assert sum(row[3] == "hybrid" for row in calm["rows"].values()) == 6
    process = screen(programs, nodes.address, 2, stops=(1, 5, 9), apart=True)
    assert said(process) == "at 1"
    tell(process, "wait 2")
    assert said(process) == "at 5"
    nodes.do("kill")
    tell(process, "wait 1")
    assert said(process) == "at 9"
    nodes.do("add")
    tell(process, "wait 2")
    wild = result_of(process)
    assert wild["rows"] == calm["rows"]
    assert len(set(wild["lost"])) == len(wild["lost"])


@pytest.mark.slow
def test_a_race_over_two_nodes_decides_as_one_worker_does(nodes, screen, zoo, tmp_path):
    """What a candidate is asked next goes to its node as calls, and what was answered comes back by them."""
    lines = zoo.tasks["mixed"].read_text().splitlines(keepends=True)
    (tmp_path / "some.jsonl").write_text("".join(lines[:40]))
    draw = random.Random(1)
    programs = {
        f"p{i}": SUM.format(draw.uniform(-1, 1.2), draw.uniform(-1, 1.2)) for i in range(24)
    }
    words = {
        "base": str(zoo.base),
        "experts": {name: str(zoo.experts[name]) for name in ("add", "sub")},
        "task": f"jsonl:{tmp_path / 'some.jsonl'}",
        "race": "sure",
        "top": 2,
    }
    alone = result_of(screen(programs, **words))["rows"]
    assert sum(row[0] == "stopped" for row in alone.values()) > 8
    both = result_of(screen(programs, nodes.address, 2, apart=True, **words))
    assert both["rows"] == alone and not both["lost"]


@pytest.fixture
def loop(zoo, tmp_path):
    """loop(where) -> the process of a small run: two iterations, and training between them."""
    rows = [json.loads(line) for line in zoo.tasks["mixed"].read_text().splitlines()]
    for_test = [row for row in rows if row["split"] == "test"][:8]
    some = [row for row in rows if row["split"] == "dev"][:16] + for_test
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    config = {
        "base": str(zoo.base),
        "experts": {name: str(zoo.experts[name]) for name in ("add", "sub")},
        "generator": str(zoo.generator),
        "task": f"jsonl:{tmp_path / 'task.jsonl'}",
        "iterations": 2,
        "samples": 16,
        "generation": {"max_new_tokens": 160, "wave": 8},
        "preferences": {"chosen_percent": 25, "rejected_percent": 25, "invalid_share": 0.5},
        "dpo": {"max_steps": 3, "warmup_steps": 0, "batch_size": 4, "learning_rate": 4e-4},
        "baselines": [],
        "test": {"top": 1},
    }

    def run(**where):
        asked = tmp_path / f"asked{len(list(tmp_path.iterdir()))}.json"
        folder = str(asked.with_suffix(""))
        asked.write_text(json.dumps({"config": config, "folder": folder, "where": where}))
        return started([NODES.with_name("ray_run.py"), asked])

    return run


@pytest.mark.slow
def test_a_run_over_two_nodes_is_that_of_one_worker(nodes, loop):
    """The cluster is left for training; of the trained generator its adapter goes to the nodes."""

    def result(process):
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, err[-3000:]
        return json.loads(out)

    alone, _ = result(loop(workers=1))
    first, second = alone["prints"]
    assert first != second and sum(row[1] == "scored" for row in alone["rows"].values()) > 6
    both, sent = result(loop(workers=2, address=nodes.address))
    assert both == alone and not alone["lost"]
    assert "adapter_model.safetensors" in sent and "model.safetensors" not in sent


@pytest.mark.slow
def test_a_lost_head_is_one_line(nodes, screen):
    process = screen(mixed(6), nodes.address, 2, stops=(1,), head_s=2.0)
    assert said(process) == "at 1"
    nodes.do("behead")
    began = time.monotonic()
    tell(process, "pause")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2, err[-2000:]
    assert "the cluster's head is lost" in err.strip().split("\n")[-1]
    assert time.monotonic() - began < 55
