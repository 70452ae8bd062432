/** From a picture's voxels to a screen's pixels and back: zoom, pan, and the true proportions in mm. */

import type { PlaneGeometry } from "./geometry";

/** `scale`: CSS pixels a mm. `centre`: the picture's mm (from its upper left corner) in the middle of the screen. */
export interface Viewport {
  width: number;
  height: number;
  scale: number;
  centre: [number, number];
}

/** Space left for letters and text when the whole picture is shown, as a share. */
const FIT = 0.94;
const MOST_PIXELS_A_VOXEL = 64;

export function sizeMm(plane: PlaneGeometry): [number, number] {
  return [plane.columns * plane.width, plane.rows * plane.height];
}

/** Shows the whole picture. */
export function fitted(plane: PlaneGeometry, width: number, height: number): Viewport {
  const [across, down] = sizeMm(plane);
  const scale = Math.max(Math.min(width / across, height / down) * FIT, 1e-3);
  return { width, height, scale, centre: [across / 2, down / 2] };
}

/** The same part of the picture on a screen of another size; what was fitted stays fitted. */
export function resized(plane: PlaneGeometry, viewport: Viewport, width: number, height: number): Viewport {
  const before = fitted(plane, viewport.width, viewport.height).scale;
  const now = fitted(plane, width, height).scale;
  return { width, height, scale: (viewport.scale / before) * now, centre: viewport.centre };
}

/** CSS pixels of a picture's position (voxel centres are whole numbers). */
export function screenOf(plane: PlaneGeometry, viewport: Viewport, picture: readonly number[]): [number, number] {
  const { width, height, scale, centre } = viewport;
  return [
    width / 2 + ((picture[0]! + 0.5) * plane.width - centre[0]) * scale,
    height / 2 + ((picture[1]! + 0.5) * plane.height - centre[1]) * scale,
  ];
}

/** The picture's position under CSS pixels of the screen. */
export function pictureAt(plane: PlaneGeometry, viewport: Viewport, screen: readonly number[]): [number, number] {
  const { width, height, scale, centre } = viewport;
  return [
    ((screen[0]! - width / 2) / scale + centre[0]) / plane.width - 0.5,
    ((screen[1]! - height / 2) / scale + centre[1]) / plane.height - 0.5,
  ];
}

/** Zooms so that what lies under `around` stays there; from a third of the whole to 64 pixels a voxel. */
export function zoomed(plane: PlaneGeometry, viewport: Viewport, factor: number, around: readonly number[]): Viewport {
  const least = fitted(plane, viewport.width, viewport.height).scale / 3;
  const most = Math.max(MOST_PIXELS_A_VOXEL / Math.min(plane.width, plane.height), least);
  const scale = Math.min(Math.max(viewport.scale * factor, least), most);
  const offset = [around[0]! - viewport.width / 2, around[1]! - viewport.height / 2];
  const centre = viewport.centre.map((at, n) => at + offset[n]! / viewport.scale - offset[n]! / scale);
  return { ...viewport, scale, centre: keptInside(plane, centre) };
}

/** Moves the picture by CSS pixels; its middle stays over the picture. */
export function panned(plane: PlaneGeometry, viewport: Viewport, right: number, down: number): Viewport {
  const { centre, scale } = viewport;
  return { ...viewport, centre: keptInside(plane, [centre[0] - right / scale, centre[1] - down / scale]) };
}

/** Puts a picture's position in the middle of the screen. */
export function centredOn(plane: PlaneGeometry, viewport: Viewport, picture: readonly number[]): Viewport {
  const centre = [(picture[0]! + 0.5) * plane.width, (picture[1]! + 0.5) * plane.height];
  return { ...viewport, centre: keptInside(plane, centre) };
}

function keptInside(plane: PlaneGeometry, centre: readonly number[]): [number, number] {
  const size = sizeMm(plane);
  return centre.map((at, n) => Math.min(Math.max(at, 0), size[n]!)) as [number, number];
}

const BARS_MM = [0.5, 1, 2, 5, 10, 20, 50, 100, 200];

/** A round length for a scale bar of at most `most` CSS pixels; the smallest one where none is short enough. */
export function scaleBar(viewport: Viewport, most: number): { mm: number; pixels: number } {
  const mm = BARS_MM.findLast((length) => length * viewport.scale <= most) ?? BARS_MM[0]!;
  return { mm, pixels: mm * viewport.scale };
}
