import type { LabelStore, Overlay, Plane, SlicePointer, Triple } from "../contract";
import { sweepBall, sweepDisc } from "./brush";
import { allowed } from "./painting";
import { isEmpty } from "./runs";
import { Stroke } from "./stroke";
import { circle, planeAxes, type ActiveStructure, type DrawingTool, type Workplace } from "./workplace";

export type BrushKind = "brush" | "eraser" | "threshold_brush";

/** A stroke that goes on longer is handed in piece by piece, so that a crash takes little. */
const AUTOSAVE_MS = 2000;

interface Drawing {
  stroke: Stroke;
  labels: LabelStore;
  active: ActiveStructure;
  plane: Plane;
  erases: boolean;
  last: Triple;
  timer: ReturnType<typeof setInterval>;
}

/** Paints and erases with a disc or a ball. Shift turns a brush into an eraser and back. */
export class BrushTool implements DrawingTool {
  readonly cursor = "crosshair";
  private drawing: Drawing | null = null;
  private hover: { plane: Plane; index: Triple } | null = null;

  constructor(
    readonly name: BrushKind,
    private readonly place: Workplace,
  ) {}

  handle(pointer: SlicePointer): boolean {
    const { phase, plane, index } = pointer;
    this.hover = phase === "leave" ? null : { plane, index };
    if (phase === "down") {
      if (!pointer.primary || pointer.control || pointer.alt || !this.begin(index, plane, pointer.shift)) return false;
      this.sweep(index);
      return true;
    }
    if (this.drawing && phase === "move") this.sweep(index);
    else if (this.drawing && phase === "up") {
      this.sweep(index);
      this.finish();
    } else {
      this.place.redraw();
      return false;
    }
    return true;
  }

  act(at: Triple, plane: Plane, other: boolean): void {
    if (this.drawing || !this.begin(at, plane, other)) return;
    this.sweep(at);
    const runs = this.finish();
    this.place.say(runs === 0 ? "Nothing to change here." : `${runs} voxels changed.`);
  }

  cut(): void {
    if (this.drawing) this.handIn(this.drawing);
  }

  cancel(): boolean {
    if (!this.drawing) return false;
    this.finish();
    return true;
  }

  overlay(plane: Plane, slice: number): Overlay | null {
    if (this.hover?.plane !== plane) return null;
    const { axes, normal } = planeAxes(this.place.geometry, plane);
    const { index } = this.hover;
    if (Math.round(index[normal]!) !== slice) return null;
    const at: [number, number] = [index[axes[0]]!, index[axes[1]]!];
    const points = circle(at, axes, this.place.geometry.spacingMm, this.place.settings().radiusMm);
    const colour = this.name === "eraser" ? "#ffffff" : (this.place.active()?.colour ?? "#ffffff");
    return { axes, lines: [{ points, closed: true, colour, width: 1.5 }], dots: [] };
  }

  private begin(at: Triple, plane: Plane, other: boolean): boolean {
    const active = this.place.active();
    if (!active) return false;
    // The end of a stroke may never be told, as when the pointer went away.
    if (this.drawing) this.finish();
    const labels = this.place.labels(active.layer);
    const erases = (this.name === "eraser") !== other;
    const timer = setInterval(() => this.cut(), AUTOSAVE_MS);
    const stroke = new Stroke(labels.data, this.place.geometry.shape);
    this.drawing = { stroke, labels, active, plane, erases, last: at, timer };
    return true;
  }

  private sweep(to: Triple): void {
    const drawing = this.drawing!;
    const { geometry } = this.place;
    const { radiusMm, shape } = this.place.settings();
    const way = { from: drawing.last, to };
    const { normal } = planeAxes(geometry, drawing.plane);
    const covered = shape === "disc" ? sweepDisc(geometry, way, radiusMm, normal) : sweepBall(geometry, way, radiusMm);
    drawing.last = to;
    const { labels, active, erases } = drawing;
    const limited = this.name === "threshold_brush" && !erases;
    const { offsets, value } = allowed(this.place, active, covered, { erases, limited });
    if (offsets.length > 0) {
      drawing.stroke.touch(offsets);
      labels.paint(offsets, value);
    }
    this.place.redraw();
  }

  private finish(): number {
    const drawing = this.drawing!;
    clearInterval(drawing.timer);
    this.drawing = null;
    return this.handIn(drawing);
  }

  /** Voxels that changed since the last time. */
  private handIn({ stroke, active, erases }: Drawing): number {
    const runs = stroke.cut();
    if (isEmpty(runs)) return 0;
    const { radiusMm, shape, over, limits } = this.place.settings();
    const parameters: Record<string, unknown> = { structure: active.structure, radiusMm, shape, over };
    if (this.name === "threshold_brush") parameters["limits"] = limits;
    const tool = erases ? "eraser" : this.name === "eraser" ? "brush" : this.name;
    this.place.commit({ layer: active.layer, tool, parameters, runs });
    return runs.lengths.reduce((sum, length) => sum + length, 0);
  }
}
