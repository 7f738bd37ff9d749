"""Programs are found in any text, in time that grows with its length only."""

from __future__ import annotations

import time

import pytest
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.program import MAX_CHARACTERS, extract, fenced_blocks

CODE = "def merge_models(d, device):\n    return d['a']\n"
BLOCKS = {
    "one block": ("words\n```python\nx\n```\nmore", [("python", "x\n", 3)]),
    "a longer fence is not closed by a shorter": ("````\n```\n````", [("", "```\n", 2)]),
    "two kinds of fence": ("~~~py\n```\n ~~~ \n```\ny", [("py", "```\n", 2), ("", "y", 5)]),
    "an open block runs to the end": ("```c++ x\na\n\n", [("c++", "a\n\n", 2)]),
    "a fence in the last line opens nothing": ("a\n```", []),
    "an empty block": ("```\n```\n", [("", "", 2)]),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_fenced_blocks(name: str):
    text, blocks = BLOCKS[name]
    assert list(fenced_blocks(text)) == blocks


def test_the_block_that_defines_the_function_is_taken():
    program = extract(f"Say merge_models.\n```\nmerge_models\n```\n```python\n{CODE}```\n")
    assert (program.code, program.first_line) == (CODE, 6)


@pytest.mark.parametrize("part", ["`", "```\n", "``` \n", "~~~\n```\n", "```a", "`\t", " \n"])
def test_no_text_takes_long(part: str):
    began = time.process_time()
    with pytest.raises(Rejected):
        extract((part * MAX_CHARACTERS)[:MAX_CHARACTERS])
    assert time.process_time() - began < 3
