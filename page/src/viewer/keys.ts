/** What keys do in a slice that has the focus. */

import type { Triple } from "../contract";
import { indexOf, pictureOf } from "./geometry";
import type { SlicePane } from "./pane";
import { draggedWindow, type Controls } from "./pointing";
import type { KeyHelp } from "./source";

/** For the page's help. */
export const VIEWER_KEYS: readonly KeyHelp[] = [
  { keys: "Arrows", does: "Move the crosshair by a voxel of the picture; with Shift by ten" },
  { keys: "Page up, Page down", does: "Go through the slices, up to head, front or left; with Shift ten at a time" },
  { keys: "Home, End", does: "Go to the slice furthest to head, front or left, and to the opposite one" },
  { keys: "+ and -", does: "Zoom in and out around the crosshair" },
  { keys: "0", does: "Show the whole picture" },
  { keys: "c", does: "Put the crosshair in the middle of the pictures" },
  { keys: ", and .", does: "Darker and brighter" },
  { keys: "; and :", does: "More and less contrast" },
  { keys: "Arrows, + and - in the 3D picture", does: "Turn it, zoom" },
];

/** The mouse, for the same help. */
export const VIEWER_MOUSE: readonly KeyHelp[] = [
  { keys: "Wheel", does: "Go through the slices" },
  { keys: "Ctrl + wheel, or two fingers", does: "Zoom" },
  { keys: "Left button", does: "Move the crosshair, or use the tool" },
  { keys: "Right button, dragged", does: "Contrast (left and right) and brightness (up and down)" },
  { keys: "Middle button, or Space and left button, dragged", does: "Move the picture" },
];

export interface KeyControls extends Controls {
  zoom(factor: number): void;
  resetView(): void;
  centreOnCrosshair(): void;
  setCrosshair(index: Triple): void;
}

const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
const STEPS: Record<string, number> = { PageUp: 1, PageDown: -1 };
const CONTRAST: Record<string, [number, number]> = { ",": [0, 20], ".": [0, -20], ";": [-25, 0], ":": [25, 0] };

/** Acts on a key; false where it means nothing here. */
export function pressed(event: KeyboardEvent, pane: SlicePane, controls: KeyControls): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const { scene } = controls;
  const times = event.shiftKey ? 10 : 1;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const [u, v] = pictureOf(pane.geometry, scene.crosshair);
    const to = [u + arrow[0] * times, v + arrow[1] * times];
    controls.setCrosshair(indexOf(pane.geometry, to, scene.crosshair[pane.geometry.normal]!));
    return true;
  }
  if (event.key in STEPS) {
    controls.step(pane.plane, STEPS[event.key]! * times);
    return true;
  }
  const contrast = CONTRAST[event.key];
  if (contrast) {
    controls.setWindow(draggedWindow(scene.window, ...contrast));
    return true;
  }
  const act = {
    "+": () => controls.zoom(1.25),
    "=": () => controls.zoom(1.25),
    "-": () => controls.zoom(0.8),
    "0": () => controls.resetView(),
    c: () => controls.centreOnCrosshair(),
    Home: () => controls.step(pane.plane, Infinity),
    End: () => controls.step(pane.plane, -Infinity),
  }[event.key];
  act?.();
  return act !== undefined;
}

export function listenToKeys(pane: SlicePane, controls: KeyControls, signal: AbortSignal): void {
  pane.top.addEventListener(
    "keydown",
    (event) => {
      if (event.defaultPrevented || !pressed(event, pane, controls)) return;
      event.preventDefault();
    },
    { signal },
  );
}
