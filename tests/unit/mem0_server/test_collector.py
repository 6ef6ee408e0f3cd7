"""In a process of its own: collections concern all of it."""

import subprocess
import sys

SCRIPT = """
import gc
from mem0_server import collector

stays = [[number] for number in range(200_000)]
collector.settle()
assert gc.get_freeze_count() > 200_000, "nothing was set aside"
assert gc.get_threshold()[0] == collector.YOUNG_OBJECTS
assert gc.isenabled()
assert len(gc.get_objects()) < 20_000, "a full collection would look at it"

class Loop:
    pass

loop = Loop()
loop.itself = loop
del loop
assert gc.collect() > 0, "garbage made later stays"
"""


def test_what_stays_is_left_out_of_full_collections_and_later_garbage_is_not():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
