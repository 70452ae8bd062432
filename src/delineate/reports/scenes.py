"""Surfaces seen from a side, without a screen or a graphics card: VTK draws into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import ResourceError
from delineate.geometry import FloatArray
from delineate.reports.solids import Solid

Picture = npt.NDArray[np.uint8]

_OLDEST_VTK = (9, 4)  # of earlier ones a process without a display dies
_SMOOTHING_ROUNDS, _PASS_BAND = 40, 0.06  # Taubin's, for looks
_PEELS = 8  # layers of translucent surfaces that are sorted
_ROOM = 1.12  # around what is shown


class Scene:
    """Solids in a picture of (height, width) pixels, on white, seen without perspective so that lengths compare."""

    def __init__(self, plotter: Any, solids: Sequence[Solid], *, size: tuple[int, int], turning: bool) -> None:
        points = np.concatenate([solid.mesh.vertices_mm for solid in solids])
        self._plotter = plotter
        self._low, self._high = points.min(axis=0), points.max(axis=0)
        across, back, up = (float(length) for length in np.maximum(self._high - self._low, 1e-3))
        wide = math.hypot(across, back) if turning else max(across, back)
        high = up if turning else max(up, back)
        self.height_mm = _ROOM * max(high, wide * size[0] / size[1])
        """How much of the patient the picture's height shows; the same from all sides."""

    def seen(self, looking: FloatArray, up: FloatArray) -> Picture:
        """(height, width, 3) with the eye so placed that it looks along `looking` (3,) in LPS, `up` being up."""
        camera, middle = self._plotter.camera, (self._low + self._high) / 2
        away = 3.0 * float(np.linalg.norm(self._high - self._low)) + 1.0
        camera.focal_point, camera.position, camera.up = middle, middle - looking * away, up
        camera.parallel_scale = self.height_mm / 2
        self._plotter.renderer.ResetCameraClippingRange()
        self._plotter.render()
        picture: Picture = np.asarray(self._plotter.screenshot(return_img=True))[..., :3].astype(np.uint8)
        return picture


@contextmanager
def open_scene(solids: Sequence[Solid], *, size: tuple[int, int], turning: bool = False) -> Iterator[Scene]:
    """A scene of at least one solid, with room for it from six sides, or, `turning`, from all around.

    Raises `ResourceError` without PyVista, or where VTK cannot draw.
    """
    pyvista = _pyvista()
    try:
        plotter = pyvista.Plotter(off_screen=True, window_size=(size[1], size[0]), lighting="three lights")
        plotter.set_background("white")
        for solid in solids:
            _add(plotter, pyvista, solid)
        plotter.enable_anti_aliasing("ssaa")
        if any(solid.opacity < 1 for solid in solids):
            plotter.enable_depth_peeling(_PEELS)
        plotter.enable_parallel_projection()
    except RuntimeError as error:
        raise ResourceError(
            "3D pictures cannot be drawn on this machine", got=str(error), remedy="Make the report without them."
        ) from error
    try:
        yield Scene(plotter, solids, size=size, turning=turning)
    finally:
        plotter.close()


def _add(plotter: Any, pyvista: Any, solid: Solid) -> None:
    mesh = solid.mesh
    surface = pyvista.PolyData.from_regular_faces(np.asarray(mesh.vertices_mm, np.float32), mesh.faces)
    surface = surface.smooth_taubin(n_iter=_SMOOTHING_ROUNDS, pass_band=_PASS_BAND)
    plotter.add_mesh(
        surface,
        color=tuple(part / 255 for part in mesh.colour),
        opacity=solid.opacity,
        smooth_shading=True,
        specular=0.15,
        specular_power=12,
        ambient=0.12,
    )


def _pyvista() -> Any:
    try:
        import pyvista
        from vtkmodules.vtkCommonCore import vtkLogger, vtkVersion
    except ImportError as error:
        raise ResourceError(
            "3D pictures and films need PyVista", remedy='Install it: pip install "delineate[pictures]".'
        ) from error
    found = (vtkVersion.GetVTKMajorVersion(), vtkVersion.GetVTKMinorVersion())
    if found < _OLDEST_VTK:
        raise ResourceError(
            "this VTK is too old to draw without a display",
            expected=".".join(map(str, _OLDEST_VTK)),
            got=vtkVersion.GetVTKVersion(),
            remedy='Renew it: pip install --upgrade "delineate[pictures]".',
        )
    # It complains of the display that is not there before it does without.
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    return pyvista
