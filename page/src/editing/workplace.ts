/** What drawing tools need of the page: the voxels, what is drawn, and where changes go. */

import type { Geometry, LabelStore, Overlay, Plane, Runs, SliceTool, Triple, VoxelStore } from "../contract";
import { planeGeometry } from "../viewer/geometry";
import type { BrushShape } from "./brush";
import type { PaintOver } from "./painting";

export interface ActiveStructure {
  /** The structure's value in the label set. */
  structure: number;
  layer: number;
  /** The value that stands for it in its layer: its own, or 1 where structures overlap. */
  value: number;
  colour: string;
}

export interface DrawingSettings {
  radiusMm: number;
  shape: BrushShape;
  over: PaintOver;
  /** Erasing takes away the active structure only, or any. */
  erases: "active" | "all";
  /** Limits of the threshold brush, in the scan's unit. */
  limits: { lower: number; upper: number };
}

export interface FinishedChange {
  layer: number;
  tool: string;
  parameters: Record<string, unknown>;
  runs: Runs;
}

export interface Workplace {
  readonly geometry: Geometry;
  readonly image: VoxelStore;
  labels(layer: number): LabelStore;
  /** Null where nothing may be drawn. */
  active(): ActiveStructure | null;
  settings(): DrawingSettings;
  /** Structures that are not shown, by value. */
  hidden(): ReadonlySet<number>;
  commit(change: FinishedChange): void;
  redraw(): void;
  /** Tells the person, on screen and to screen readers. */
  say(text: string): void;
}

/** A tool that the keyboard reaches too. */
export interface DrawingTool extends SliceTool {
  /** Acts at a voxel of a plane, as a click does. `other`: as with Shift held. */
  act(at: Triple, plane: Plane, other: boolean): void;
  /** Hands in what is being drawn so far; it goes on. */
  cut(): void;
  /** Leaves off what is half drawn. True if there was something. */
  cancel(): boolean;
}

export interface PlaneAxes {
  axes: [number, number];
  normal: number;
}

export function planeAxes(geometry: Geometry, plane: Plane): PlaneAxes {
  const { column, row, normal } = planeGeometry(geometry, plane);
  return { axes: [column, row], normal };
}

/** Ellipse in index coordinates that is a circle of `radiusMm` in the picture. */
export function circle(at: [number, number], axes: [number, number], spacingMm: Triple, radiusMm: number): [number, number][] {
  return Array.from({ length: 48 }, (_, n) => {
    const turn = (n / 48) * 2 * Math.PI;
    return [
      at[0] + (Math.cos(turn) * radiusMm) / spacingMm[axes[0]]!,
      at[1] + (Math.sin(turn) * radiusMm) / spacingMm[axes[1]]!,
    ];
  });
}

export function joinOverlays(one: Overlay | null | undefined, other: Overlay | null | undefined): Overlay | null {
  if (!one || !other) return one ?? other ?? null;
  return { axes: one.axes, lines: [...one.lines, ...other.lines], dots: [...one.dots, ...other.dots] };
}
