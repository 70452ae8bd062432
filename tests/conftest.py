"""The tests run in one thread: beside other work, threads that wait for one another take several times as long."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
