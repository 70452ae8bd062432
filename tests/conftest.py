"""The tests run in one thread: beside other work, threads that wait for one another take several times as long."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

# How long an example takes depends on what else the machine does; no test is about that.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
