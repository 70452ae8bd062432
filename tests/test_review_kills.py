"""A whole server, killed at random moments while people draw, undo and sign: nothing that it acknowledged is lost.

benchmarks/review.py --kills 50 does the same for longer.
"""

from pathlib import Path

import numpy as np
from review_clients import Acknowledged, losses
from review_killing import kill_again_and_again, make_folders, readers_of

from delineate.review.keeping import Sources, add_found, open_review
from delineate.review.places import places_in

KILLS = 10


def test_kills_of_a_server_under_load_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    outcome = kill_again_and_again(tmp_path, kills=KILLS)
    assert outcome.wrong == ()
    assert outcome.kept >= outcome.acknowledged > 5 * KILLS
    assert outcome.decided > 0
    assert outcome.cut_off >= KILLS


def test_what_was_lost_would_be_told(tmp_path: Path) -> None:
    scans, results = make_folders(tmp_path)
    store = open_review(places_in(results))
    add_found(store, Sources(None, scans, results))
    readers = readers_of(tmp_path)
    for reader in readers:
        reader.labels = np.ones((12, 17, 23), np.uint8)
    readers[1].acknowledged.append(Acknowledged("p1", 1, b"never stored"))
    readers[0].decided.append("2026-01-01T00:00:00+00:00")
    told = "\n".join(losses(store, readers))
    assert "p1: revision 1 was acknowledged, and is not there" in told
    assert "p0: the decision of 2026-01-01T00:00:00+00:00 is not there" in told
    assert told.count("the labels are not what was drawn") == len(readers)
    store.close()
