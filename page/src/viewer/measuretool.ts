/** Measures with the pointer: a line, an ellipse, or a point where one only clicks. */

import type { SlicePointer, SliceTool, Triple } from "../contract";
import { measured, type Measured } from "./measuring";
import type { Scene } from "./scene";
import type { MeasureKind } from "./source";

let lastId = 0;

/** A measurement with its text; `id` of one that is only drawn while the pointer moves is 0. */
export function measure(scene: Scene, kind: MeasureKind, at: Pick<Measured, "plane" | "from" | "to">, id: number): Measured {
  const plane = scene.planes[at.plane];
  const text = measured(scene.image, scene.source.image.unit, { kind, plane, from: at.from, to: at.to });
  return { id, kind, ...at, text, slice: Math.round(at.from[plane.normal]!) };
}

export function nextId(): number {
  return ++lastId;
}

/** `changed` is told whenever the scene's measurements changed. */
export function measureTool(scene: Scene, kind: MeasureKind, changed: () => void): SliceTool {
  let from: Triple | null = null;

  const show = (pointer: SlicePointer, done: boolean): void => {
    const kept = scene.measured.filter(({ id }) => id !== 0);
    const one = measure(scene, kind, { plane: pointer.plane, from: from!, to: pointer.index }, done ? nextId() : 0);
    // A click without a way is a point for intensities, and nothing for a distance.
    const empty = kind === "distance" && one.text === "0.0 mm";
    scene.measured = empty ? kept : [...kept, one];
    changed();
  };

  return {
    name: kind === "distance" ? "Measure a distance" : "Measure intensities",
    cursor: "crosshair",
    handle(pointer) {
      if (pointer.phase === "down") {
        if (!pointer.primary || !pointer.inside) return false;
        from = pointer.index;
        show(pointer, false);
        return true;
      }
      if (from === null) return false;
      if (pointer.phase === "move") show(pointer, false);
      if (pointer.phase === "up") {
        show(pointer, true);
        from = null;
      }
      return pointer.phase === "move" || pointer.phase === "up";
    },
  };
}
