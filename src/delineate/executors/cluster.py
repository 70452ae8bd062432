"""Pieces of work on the machines of a Ray cluster, which all see the same folders.

A piece is a function without arguments that goes on with what its folder holds. So one whose machine or process died is
simply begun again elsewhere, and machines that join the cluster later take part.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from delineate.errors import InputError, ResourceError

_POLL_SECONDS = 0.5
_RETRIES = 4  # of a piece whose process or machine died
_STORE_BYTES = 100 * 2**20  # for what pieces return, on this machine alone: words, no voxels
_ANSWER_SECONDS = 5.0
_LOCAL = "ray"


@dataclass(frozen=True, slots=True)
class Cluster:
    """`address`: "ray" for the cluster that runs on this machine, or else for this machine alone; "HOST:PORT" of a
    cluster's head, or "ray://HOST:PORT" of its server for clients.

    `cpus`, `gpus`, `memory_bytes`: what each piece of work takes, so that as many run at once as there is room for.
    """

    address: str = _LOCAL
    cpus: int = 1
    gpus: int = 0
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.gpus < 0 or (self.memory_bytes or 1) < 1:
            raise InputError("a piece of work takes at least one CPU", got=self)


def check_address(cluster: Cluster) -> None:
    """Raises `ResourceError` if nobody answers at a cluster's address, before work is done for it."""
    host, _, port = cluster.address.removeprefix("ray://").rpartition(":")
    if cluster.address == _LOCAL:
        return
    if not (host and port.isdecimal() and int(port) < 2**16):
        raise InputError(
            "not the address of a cluster", expected="ray, HOST:PORT or ray://HOST:PORT", got=cluster.address
        )
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise _unreachable(cluster.address, str(error)) from error


def run_on_cluster(
    cluster: Cluster,
    pieces: Mapping[str, Callable[[], object]],
    *,
    watch: Callable[[int], None],
    stopping: Callable[[], bool],
) -> dict[str, object]:
    """Do pieces of work, functions that can be pickled, and give what each returned; those that were never begun are
    left out. `watch` is told every now and then how many are done.

    When `stopping` says so, those that run get SIGINT, once, and no other is begun. Raises what a piece raised, after
    the others were stopped, and `ResourceError` without Ray, without the cluster, or for a piece that died again and
    again.
    """
    with _connected(cluster) as ray:
        options: dict[str, object] = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_retries": _RETRIES}
        if cluster.memory_bytes is not None:
            options["memory"] = cluster.memory_bytes
        _check_room(ray, cluster)
        begun = {ray.remote(**options)(_do).remote(piece): name for name, piece in pieces.items()}
        return _finished(ray, begun, watch=watch, stopping=stopping)


def _do(piece: Callable[[], object]) -> object:
    return piece()


def _finished(
    ray: Any, begun: Mapping[Any, str], *, watch: Callable[[int], None], stopping: Callable[[], bool]
) -> dict[str, object]:
    found: dict[str, object] = {}
    failure: BaseException | None = None
    left, asked = list(begun), False
    try:
        while left:
            if not asked and (failure is not None or stopping()):
                asked = True
                _stop(ray, left)
            done, left = ray.wait(left, num_returns=1, timeout=_POLL_SECONDS)
            for reference in done:
                try:
                    found[begun[reference]] = _result(ray, reference, begun[reference])
                except ray.exceptions.TaskCancelledError:
                    pass
                except Exception as error:
                    failure = failure or error
            watch(len(begun) - len(left))
    except BaseException:  # a second Ctrl-C
        for reference in left:
            ray.cancel(reference, force=True)
        raise
    if failure is not None:
        raise failure
    return found


def _stop(ray: Any, references: list[Any]) -> None:
    for reference in references:
        ray.cancel(reference, force=False)


def _result(ray: Any, reference: Any, name: str) -> object:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, Exception):
            raise cause from None
        raise
    except ray.exceptions.TaskCancelledError:
        raise
    except ray.exceptions.RayError as error:
        raise ResourceError(
            f"{name} could not be done on the cluster",
            got=f"{type(error).__name__}, after {_RETRIES} more tries",
            remedy="See `ray status`; give each piece more memory (--memory-gb), and run the same command again.",
        ) from error


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected as long as the context lasts; a connection that was there before stays."""
    try:
        import ray
    except ImportError as error:
        raise ResourceError(
            "a cluster needs Ray, which is not installed", remedy='pip install "delineate[cluster]"'
        ) from error
    if ray.is_initialized():
        yield ray
        return
    _connect(ray, cluster.address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent out of the house
    try:
        if address != _LOCAL:
            ray.init(address=address, **quiet)
            return
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            alone = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
            ray.init(object_store_memory=_STORE_BYTES, **alone, **quiet)
    except (ConnectionError, ImportError, RuntimeError, ValueError, TimeoutError) as error:
        raise _unreachable(address, (str(error).splitlines() or [type(error).__name__])[0][:200]) from error


def _unreachable(address: str, why: str) -> ResourceError:
    return ResourceError(
        f"the cluster {address} cannot be reached",
        got=why.rstrip("."),
        remedy="Begin it with `ray start --head`, and give its address: --cluster HOST:6379.",
    )


def _check_room(ray: Any, cluster: Cluster) -> None:
    """Raises `ResourceError` for pieces that no machine of the cluster has room for, which would wait for ever."""
    wanted = {"CPU": cluster.cpus, "GPU": cluster.gpus, "memory": cluster.memory_bytes or 0}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(kind, 0) >= amount for kind, amount in wanted.items()) for node in nodes):
        most = {kind: max((node.get(kind, 0) for node in nodes), default=0) for kind in wanted}
        raise ResourceError(
            "no machine of the cluster has room for a piece of this work",
            expected=_amounts(wanted),
            got=f"at most {_amounts(most)}",
            remedy="Give fewer --threads, or less --memory-gb.",
        )


def _amounts(of: Mapping[str, float]) -> str:
    return f"{of['CPU']:.0f} CPUs, {of['GPU']:.0f} GPUs, {of['memory'] / 1e9:.1f} GB"
