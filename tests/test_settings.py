from pathlib import Path

import pytest
import torch

from delineate.settings import detect


def test_what_is_given_is_taken() -> None:
    settings = detect("cpu", threads=3, memory_gb=1.5, cache=Path("here"))
    assert (settings.device, settings.threads, settings.memory_bytes) == ("cpu", 3, 1_500_000_000)
    assert settings.cache == Path("here")


def test_the_rest_is_found_out() -> None:
    settings = detect("cpu")
    assert settings.threads >= 1
    assert settings.memory_bytes > 10**8


def test_the_cache_follows_the_desktop_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert detect("cpu").cache == Path("/somewhere/delineate")


def test_auto_finds_a_device() -> None:
    assert detect("auto").device in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    ("own", "precision"), [({}, "float32"), ({"avx512_vnni": True}, "float32"), ({"avx512_bf16": True}, "bfloat16")]
)
def test_a_cpu_that_only_imitates_bfloat16_trains_in_float32(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, bool], precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: own)
    assert detect("cpu").precision == precision
