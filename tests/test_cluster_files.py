"""The files for containers and clusters: their syntax, and that what they name is there."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from selfdev_engine.selfdev.cli.run import run_command

REPO = Path(__file__).parents[1]
FOLDER = REPO / "configs" / "cluster"
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD", "ENV"}


def test_the_batch_script_is_bash_and_goes_on_with_a_run(tmp_path):
    script = FOLDER / "slurm.sh"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    # Stand-ins say how they were called.
    for name in ("srun", ".venv/bin/selfdev-engine"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> calls\n')
        path.chmod(0o755)
    (tmp_path / "r").mkdir()
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path)}
    words = ["bash", script, "c.yaml", "r"]
    assert subprocess.run(words, env=environment, timeout=60).returncode == 0
    (tmp_path / "r" / "run.db").touch()
    assert subprocess.run(words, env=environment, timeout=60).returncode == 0
    run = "selfdev-engine run c.yaml --run r"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{run} --plan",
        f"srun --ntasks=1 --cpus-per-task=64 .venv/bin/{run}",
        f"{run} --resume --plan",
        f"srun --ntasks=1 --cpus-per-task=64 .venv/bin/{run} --resume",
    ]
    failed = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)
    assert failed.returncode != 0 and "which config" in failed.stderr


STAND_IN = '#!/bin/sh\necho "$(basename $0) $*" >> calls\n'


def test_the_batch_script_for_many_nodes_starts_a_cluster_and_goes_on_with_a_run(tmp_path):
    script = FOLDER / "slurm-ray.sh"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    for name in ("srun", ".venv/bin/selfdev-engine", ".venv/bin/ray"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN)
        path.chmod(0o755)
    # As on Debian the node's name stands for 127.0.1.1 there, which no other node can reach.
    said = 'case "$1" in "") echo one;; --ip*) echo 127.0.1.1;; *) echo fd00::7 10.0.0.1 172.17.0.1;; esac'
    (tmp_path / "hostname").write_text(f"#!/bin/sh\n{said}\n")
    (tmp_path / "hostname").chmod(0o755)
    (tmp_path / "r").mkdir()
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path)}
    environment |= {
        "SLURM_JOB_NUM_NODES": "4",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURMD_NODENAME": "n1",
    }
    words = ["bash", script, "c.yaml", "r"]
    for more in ("", " --resume"):
        assert subprocess.run(words, env=environment, timeout=60).returncode == 0
        # Nodes are started in the background, so that may be noted last.
        until = time.monotonic() + 20
        while len(calls := (tmp_path / "calls").read_text().splitlines()) < 4:
            assert time.monotonic() < until, calls
            time.sleep(0.05)
        (tmp_path / "calls").unlink()
        assert calls[0] == (
            "ray start --head --node-ip-address=10.0.0.1 --port=6379 --disable-usage-stats"
        )
        joined = "ray start --address=10.0.0.1:6379 --block"
        placed = f"run c.yaml --run r{more} --address 10.0.0.1:6379 --workers 32"
        assert calls.index("ray stop") > calls.index(f"selfdev-engine {placed}")
        assert sorted(calls[1:]) == [
            "ray stop",
            f"selfdev-engine {placed}",
            f"srun --overlap --nodes=3 --ntasks=3 --cpus-per-task=16 --exclude=n1 .venv/bin/{joined}",
        ]
        (tmp_path / "r" / "run.db").touch()
    # The driver hears the notice of the end, and its answer is the script's.
    driver = tmp_path / ".venv/bin/selfdev-engine"
    driver.write_text("#!/bin/sh\ntrap 'exit 5' INT\ntouch began\nwhile :; do sleep 0.1; done\n")
    # Whoever runs the tests in the background ignores the notice, and a shell cannot take that back.
    listen = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(words, env=environment, cwd=tmp_path, preexec_fn=listen) as job:
        while not (tmp_path / "began").exists():
            assert job.poll() is None
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        try:
            assert job.wait(60) == 5
        finally:
            job.kill()


def test_the_kubernetes_job_is_yaml_with_a_command_that_we_know():
    job = yaml.safe_load((FOLDER / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, command, config, *options = job["spec"]["entrypoint"].split()
    assert (program, command) == ("selfdev-engine", "run")
    assert (REPO / Path(config).relative_to("/work")).is_file()
    known = {name for option in run_command.params for name in option.opts}
    assert {word for word in options if word.startswith("--")} <= known
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    head, replicas = cluster["headGroupSpec"], group["replicas"]
    each = int(group["rayStartParams"]["num-gpus"])
    # The driver trains on cards of the pod where it is.
    assert (on_head := int(head["rayStartParams"]["num-gpus"])) > 0
    assert each * replicas + on_head == int(options[options.index("--workers") + 1])
    for part in (head, group):
        spec = part["template"]["spec"]
        (container,) = spec["containers"]
        limits = container["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == part["rayStartParams"]["num-gpus"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_the_image_is_built_of_files_that_are_here():
    text = re.sub(r"\\\n", " ", (FOLDER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert {line.split()[0] for line in lines} <= INSTRUCTIONS
    assert lines[0].startswith("FROM ")
    for name in re.findall(r"(?:-r |COPY |python )((?:tests/)?[\w-]+\.(?:lock|py))", text):
        assert (REPO / name).is_file(), name


@pytest.mark.parametrize("name", [".venv", "runs", "zoo"])
def test_what_is_made_here_stays_out_of_the_image(name):
    assert name in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
