"""Runs the loop in a process of its own, on nodes that seem to share no files with the driver.

python ray_run.py ASKED.json     prints JSON: what each iteration's generator was, and what became of its programs;
                               then the names of the files that went to nodes
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.workers.cluster import Cluster, RayLine
from selfdev_engine.selfdev.run import request_of, run_prepared
from selfdev_engine.selfdev.watching import UNSEEN

ANSWERS, sys.stdout = sys.stdout, sys.stderr


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    known = RayLine._known
    RayLine._known = lambda self: {**known(self), "shares": False}  # type: ignore[method-assign]
    sent, object_of = set[str](), Cluster.object_of

    def noted(self: Cluster, path: str) -> object:
        sent.add(Path(path).name)
        return object_of(self, path)

    Cluster.object_of = noted  # type: ignore[method-assign]
    request = request_of(asked["config"], run=asked["folder"], **asked["where"])
    screening = replace(request.screening, engine="transformers")
    result = run_prepared(replace(request, screening=screening), UNSEEN)
    prints = [turn["generator_fingerprint"] for turn in result["iterations"]]
    with Store.read(Path(asked["folder"], "run.db")) as store:
        rows = {}
        for c in store.candidates():
            words = (c.source, c.status and c.status.value, c.kind, c.weights_fingerprint)
            rows[c.id] = [*words, store.outcomes(c.id)]
        lost = [data["candidate"] for kind, data in store.events() if kind == "worker lost"]
    test = [result["base"]["test"], result["best"]["test"]]
    found = {"prints": prints, "rows": rows, "lost": lost, "test": test}
    print(json.dumps([found, sorted(sent)]), file=ANSWERS)


if __name__ == "__main__":
    main()
