/** The measurements of a case: made with the pointer or with keys, listed, taken away. */

import type { Measurement, Plane, SliceTool, Triple } from "../contract";
import { Listeners } from "./listeners";
import { measure, measureTool, nextId } from "./measuretool";
import type { Scene } from "./scene";
import type { MeasureKind } from "./source";

export class Measurements {
  readonly changed = new Listeners<[]>();
  #marked: { kind: MeasureKind; plane: Plane; from: Triple } | null = null;

  constructor(readonly scene: Scene) {}

  /** Without the one that is being drawn. */
  all(): readonly Measurement[] {
    return this.scene.measured.filter(({ id }) => id !== 0);
  }

  tool(kind: MeasureKind): SliceTool {
    return measureTool(this.scene, kind, () => this.changed.tell());
  }

  /** Marks the crosshair as the start, or ends at it. Gives what was measured; null where a start was marked. */
  mark(kind: MeasureKind): string | null {
    const { crosshair, active } = this.scene;
    const start = this.#marked;
    if (start === null || start.kind !== kind || start.plane !== active) {
      this.#marked = { kind, plane: active, from: crosshair };
      return null;
    }
    this.#marked = null;
    const one = measure(this.scene, kind, { plane: active, from: start.from, to: crosshair }, nextId());
    this.#set([...this.scene.measured, one]);
    return one.text;
  }

  remove(id: number): void {
    this.#set(this.scene.measured.filter((one) => one.id !== id));
  }

  clear(): void {
    this.#set([]);
  }

  #set(measured: Scene["measured"]): void {
    this.scene.measured = measured;
    this.changed.tell();
  }
}
