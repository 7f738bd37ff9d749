"""The part of run.db that belongs to the iterations of a loop: their records, preferences and holdouts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .candidate import MAIN
from .forms import Form, in_file, stored

# What is read of the record of an iteration; an older version may lack some of it.
TURN: Form = {
    "iteration?": "whole",
    **dict.fromkeys(("sampled?", "unique?", "texts?", "updates?", "valid?"), "number"),
    **dict.fromkeys(("pairs?", "dpo_steps?"), "number"),
    **dict.fromkeys(("best?", "mean?", "temperature?"), "number"),
    "categories?": {"*": "number"},
    "rejected?": {"*": "number"},
    **dict.fromkeys(("note?", "generator_fingerprint?"), "text"),
    "training?": {
        "loss?": ("real",),
        "margin_nats?": ("real",),
        "holdout_loss?": (["whole", "real"],),
        "holdout_margin_nats?": ["real?", "real?", "real?"],
    },
}


class Iterations:
    """What a loop keeps of its iterations, by arm. Store has it."""

    _db: sqlite3.Connection
    path: Path

    def set_iteration(self, iteration: int, data: Mapping[str, Any], arm: str = MAIN) -> None:
        """Store the record of an iteration of an arm, in place of an earlier one."""
        row = (arm, iteration, json.dumps(dict(data)))
        self._db.execute("INSERT OR REPLACE INTO iterations VALUES (?, ?, ?)", row)

    def iterations(self, arm: str = MAIN) -> dict[int, dict[str, Any]]:
        """Return the records of an arm's iterations, by number."""
        query = "SELECT iteration, data FROM iterations WHERE arm = ? ORDER BY iteration"
        return {i: self._turn(arm, i, data) for i, data in self._db.execute(query, (arm,))}

    def _turn(self, arm: str, iteration: int, data: str) -> dict[str, Any]:
        row = f"row with arm {arm!r} and iteration {iteration}"
        place = in_file(self.path, "table iterations", "column data", row)
        return {"iteration": iteration, **stored(data, place, TURN)}

    def set_preferences(
        self, iteration: int, pairs: Iterable[tuple[str, str, bool]], arm: str = MAIN
    ) -> None:
        """Store preferences (chosen id, rejected id, held out) of an arm, in place of earlier ones."""
        delete = "DELETE FROM preferences WHERE iteration = ? AND arm = ?"
        self._db.execute(delete, (iteration, arm))
        rows = [(iteration, *pair, arm) for pair in pairs]
        self._db.executemany("INSERT INTO preferences VALUES (?, ?, ?, ?, ?)", rows)

    def preferences(self, iteration: int, arm: str = MAIN) -> list[tuple[str, str, bool]]:
        """Return (chosen id, rejected id, held out) of an iteration of an arm, in the order stored."""
        query = "SELECT * FROM preferences WHERE iteration = ? AND arm = ? ORDER BY rowid"
        rows = self._db.execute(query, (iteration, arm))
        return [(row["chosen"], row["rejected"], bool(row["held_out"])) for row in rows]

    def hold_out(self, iteration: int, names: Iterable[str], arm: str = MAIN) -> None:
        """Mark these candidates of an iteration as held out, and no others of it."""
        update = "UPDATE candidates SET held_out = id IN (SELECT value FROM json_each(?))"
        values = (json.dumps(list(names)), arm, iteration)
        self._db.execute(f"{update} WHERE arm = ? AND iteration = ?", values)
