"""MindGrab's network against plain torch layers, its field of view, and its weights file."""

from __future__ import annotations

import numpy as np
import pytest

from braing3n_core.errors import PreprocessError
from braing3n_core.preprocess import mindgrab
from braing3n_core.preprocess.mindgrab import DILATIONS, conform, forward
from braing3n_core.preprocess.mindgrab_weights import from_published, load_weights, shapes

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def weights():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes().items()}


def plain(array: np.ndarray, weights) -> np.ndarray:
    """The same network of stock layers in float64."""
    x = torch.from_numpy(array).double()[None, None]
    for index, dilation in enumerate(DILATIONS):
        weight = weights[f"model.{index}.0.weight"].double()
        x = torch.nn.functional.conv3d(x, weight, padding=dilation, dilation=dilation)
        x = torch.nn.functional.gelu(torch.nn.functional.instance_norm(x))
    x = torch.nn.functional.conv3d(x, weights["model.25.weight"].double(), weights["model.25.bias"].double())
    return (x[0, 1] - x[0, 0]).numpy()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.15)])
def test_the_fast_network_is_the_plain_network(dtype, tolerance, weights, monkeypatch) -> None:
    monkeypatch.setattr(mindgrab, "_fast_dtype", lambda: getattr(torch, dtype))
    array = np.random.default_rng(0).random((24, 20, 22)).astype(np.float32)
    fast, slow = forward(array, weights), plain(array, weights)
    assert np.sqrt(np.mean((fast - slow) ** 2)) < tolerance * slow.std()


def test_the_network_has_the_published_number_of_weights() -> None:
    assert sum(int(np.prod(shape)) for shape in shapes().values()) == 146_237


def test_the_published_order_is_kernel_in_out() -> None:
    numbers = np.arange(146_237, dtype="<f4")
    tensors = from_published(numbers.tobytes())
    assert {name: t.shape for name, t in tensors.items()} == shapes()
    assert tensors["model.0.0.weight"][3, 0, 1, 2, 0] == (1 * 9 + 2 * 3 + 0) * 15 + 3
    assert tensors["model.1.0.weight"][4, 5, 0, 0, 2] == 405 + 2 * 225 + 5 * 15 + 4
    assert tensors["model.25.bias"][1] == 146_236


def test_the_field_of_view_is_lia_at_one_millimetre_and_holds_the_head(head) -> None:
    volume, inside = head
    field = conform(volume)
    np.testing.assert_allclose(field.affine[:3, :3], [[-1, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert field.array.min() == 0.0 and field.array.max() == 1.0 and field.array.dtype == np.float32
    world = np.argwhere(inside) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    voxels = (world - field.affine[:3, 3]) @ np.linalg.inv(field.affine[:3, :3]).T
    assert (voxels.min(axis=0) >= 0).all() and (voxels.max(axis=0) < field.array.shape).all()


def test_a_damaged_weights_file_is_refused(tmp_path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"not tensors")
    with pytest.raises(PreprocessError) as caught:
        load_weights(tmp_path / "w.safetensors")
    assert caught.value.code == "brain.mindgrab_weights"


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, dtype=np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(PreprocessError, match="does not hold"):
        load_weights(tmp_path / "w.safetensors")
