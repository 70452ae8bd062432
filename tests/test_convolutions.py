import pytest
import torch
from torch import nn

from delineate.networks import blocks
from delineate.networks.blocks import convolution

pytestmark = pytest.mark.skipif(
    not (blocks._MEASURED_PROCESSOR and torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
    reason="PyTorch is left to itself on this processor",
)
CASES = [((3, 3, 3), (1, 1, 1), 8), ((3, 3, 1), (2, 2, 1), 5), ((1, 3, 3), (1, 2, 2), 3), ((1, 1, 1), (1, 1, 1), 8)]


@pytest.mark.parametrize(("kernel", "stride", "channels"), CASES)
def test_one_small_image_is_convolved_as_by_pytorch(
    kernel: tuple[int, int, int], stride: tuple[int, int, int], channels: int
) -> None:
    torch.manual_seed(0)
    ours = convolution(channels, 6, kernel, stride=stride, bias=True)
    plain = nn.Conv3d(channels, 6, kernel, stride=stride, padding=tuple((n - 1) // 2 for n in kernel))  # type: ignore[arg-type]
    plain.load_state_dict(ours.state_dict())
    ours.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x = torch.randn(1, channels, 10, 6, 7)
    images = [x.clone().requires_grad_(), x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()]
    assert blocks._is_left_by_onednn(x)
    outputs = [plain(images[0]), ours(images[1])]
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(images[1].grad, images[0].grad, rtol=1e-4, atol=1e-4)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_what_pytorch_does_well_by_itself_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not blocks._is_left_by_onednn(torch.zeros(2, 4, 4, 4, 4))
    assert not blocks._is_left_by_onednn(torch.zeros(1, 32, 30, 40, 2))
    assert not blocks._is_left_by_onednn(torch.zeros(1, 4, 4, 4, 4, dtype=torch.float64))
    with torch.autocast("cpu", torch.bfloat16):
        assert not blocks._is_left_by_onednn(torch.zeros(1, 4, 4, 4, 4))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not blocks._is_left_by_onednn(torch.zeros(1, 4, 4, 4, 4))


def test_who_turns_onednn_off_gets_none_of_it() -> None:
    torch._C._set_mkldnn_enabled(False)
    try:
        assert not blocks._is_left_by_onednn(torch.zeros(1, 4, 4, 4, 4))
    finally:
        torch._C._set_mkldnn_enabled(True)


def test_weights_of_another_type_are_refused_as_by_pytorch() -> None:
    layer = convolution(4, 4, (3, 3, 3), bias=True).double()
    with pytest.raises(RuntimeError, match="should be the same"):
        layer(torch.zeros(1, 4, 4, 4, 4))


def test_a_window_alone_gives_what_it_gives_beside_another() -> None:
    torch.manual_seed(1)
    layer = convolution(16, 16, (3, 3, 3), bias=False).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    both = torch.randn(2, 16, 5, 7, 6).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        torch.testing.assert_close(layer(both[1:].contiguous(memory_format=torch.channels_last_3d))[0], layer(both)[1])
