"""Screens programs in a process of its own, and stops after chosen decisions for what the test does then.

python ray_screen.py SETTINGS.json     prints "at N" and waits for a line; at the end "rows" and JSON
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screen import open_screener, run_candidates
from selfdev_engine.engine.screening.folder import POPULATION, add_programs
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.engine.workers import cluster
from selfdev_engine.engine.workers.cluster import RayLine

LIMIT_S = 240.0
# Ray prints to standard output when a node dies.
ANSWERS, sys.stdout = sys.stdout, sys.stderr


def say(line: str) -> None:
    print(line, file=ANSWERS, flush=True)


class Bar:
    """Stops at these numbers of decisions; a line "wait N" goes on once N workers are open, "pause" later."""

    def __init__(self, stops: list[int]) -> None:
        self.stops, self.screener = stops, None

    def update(self, done: int, total: int) -> None:
        if done in self.stops:
            self.stops.remove(done)
            say(f"at {done}")
            word, _, count = sys.stdin.readline().strip().partition(" ")
            if word == "wait":
                self.wait(int(count))
            elif word == "pause":
                time.sleep(4 * cluster.HEAD_S)

    def wait(self, count: int) -> None:
        end = time.monotonic() + LIMIT_S
        while len(self.screener.session.workers) != count:  # type: ignore[attr-defined]
            assert time.monotonic() < end, f"never {count} workers"
            time.sleep(0.2)

    def stage(self, label: str, total: int | None = None) -> None:
        pass

    def facts(self, look: object) -> None:
        pass


def keep_apart() -> None:
    """Have nodes seem to share no files with the driver."""
    known = RayLine._known
    RayLine._known = lambda self: {**known(self), "shares": False}  # type: ignore[method-assign]


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    if asked["apart"]:
        keep_apart()
    cluster.HEAD_S = asked["head_s"]
    folder, settings = Path(asked["folder"]), ScreenSettings(**asked["settings"])
    programs, bar = asked["programs"], Bar(asked["stops"])
    with Store.open(folder / "run.db") as store:
        store.set_setting(POPULATION, len(programs))
        add_programs(store, list(programs.items()), settings, folder)
        with open_screener(settings, store, folder) as screener:
            bar.screener = screener  # type: ignore[assignment]
            run_candidates(screener, list(programs), bar)
        say(f"rows {json.dumps(rows_of(store))}")


def rows_of(store: Store) -> dict[str, object]:
    rows = {}
    for c in store.candidates():
        score = store.score(c.id)
        words = (c.status and c.status.value, c.kind, c.duplicate_of, c.tier, c.weights_fingerprint)
        rows[c.id] = [*words, score and score.to_json(), store.outcomes(c.id)]
    lost = [data["candidate"] for kind, data in store.events() if kind == "worker lost"]
    return {"rows": rows, "lost": lost}


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
