/** What a person can choose on the case page, with names and keys: one list for the palette, the keyboard and the help. */

import type { Layout, Style } from "../contract";

export type ToolName =
  | "look"
  | "brush"
  | "eraser"
  | "threshold_brush"
  | "lasso"
  | "point"
  | "box"
  | "scribble"
  | "distance"
  | "intensity";

export interface ToolChoice {
  name: ToolName;
  label: string;
  key: string;
  hint: string;
  edits: boolean;
}

export const TOOLS: readonly ToolChoice[] = [
  { name: "look", label: "Look", key: "v", hint: "Moves the crosshair", edits: false },
  { name: "brush", label: "Brush", key: "b", hint: "Paints the active structure; Shift erases", edits: true },
  { name: "eraser", label: "Eraser", key: "e", hint: "Erases; Shift paints", edits: true },
  { name: "threshold_brush", label: "Threshold", key: "t", hint: "Paints only intensities between two limits", edits: true },
  { name: "lasso", label: "Lasso", key: "l", hint: "Fills what you go round; Shift erases", edits: true },
  { name: "point", label: "Click", key: "p", hint: "Proposes from clicks; Shift: does not belong", edits: true },
  { name: "box", label: "Box", key: "o", hint: "Proposes from a box", edits: true },
  { name: "scribble", label: "Scribble", key: "s", hint: "Proposes from scribbles; Shift: does not belong", edits: true },
  { name: "distance", label: "Distance", key: "m", hint: "Measures mm along a line", edits: false },
  { name: "intensity", label: "Intensity", key: "i", hint: "Measures intensity at a point or in an ellipse", edits: false },
];

export const LAYOUTS: readonly { name: Layout; label: string }[] = [
  { name: "four", label: "Four pictures" },
  { name: "axial", label: "Axial" },
  { name: "coronal", label: "Coronal" },
  { name: "sagittal", label: "Sagittal" },
  { name: "side-by-side", label: "Side by side" },
];

export const SHOWN: readonly { name: Style["shown"]; label: string; needsReference: boolean }[] = [
  { name: "labels", label: "Labels", needsReference: false },
  { name: "model", label: "Model's result", needsReference: false },
  { name: "reference", label: "Reference", needsReference: true },
  { name: "difference", label: "Difference", needsReference: false },
];

/** Tools that change a whole structure, on the server. A field's name is the tool's parameter there. */
export interface StructureTool {
  name: string;
  label: string;
  hint: string;
  field?: { name: "mm" | "ml"; label: string; start: number; step: number };
  /** Fills between slices along the axis across the active picture. */
  needsAxis?: boolean;
  /** Acts on the piece under the crosshair. */
  needsIndex?: boolean;
}

export const STRUCTURE_TOOLS: readonly StructureTool[] = [
  {
    name: "fill_between",
    label: "Fill between slices",
    hint: "Fills the gaps between slices that you drew in the active picture",
    needsAxis: true,
  },
  {
    name: "smooth",
    label: "Smooth",
    hint: "Rounds the surface and keeps the volume",
    field: { name: "mm", label: "Radius in mm", start: 3, step: 0.5 },
  },
  {
    name: "grow",
    label: "Grow",
    hint: "Adds a margin",
    field: { name: "mm", label: "Margin in mm", start: 2, step: 0.5 },
  },
  {
    name: "shrink",
    label: "Shrink",
    hint: "Takes a margin away",
    field: { name: "mm", label: "Margin in mm", start: 2, step: 0.5 },
  },
  { name: "fill_holes", label: "Fill holes", hint: "Fills what the structure encloses" },
  {
    name: "remove_islands",
    label: "Remove islands",
    hint: "Removes pieces smaller than this",
    field: { name: "ml", label: "ml", start: 0.5, step: 0.1 },
  },
  { name: "keep_largest", label: "Keep largest piece", hint: "Removes all pieces but the largest" },
  {
    name: "remove_component",
    label: "Remove piece at crosshair",
    hint: "Removes the connected piece that the crosshair is in",
    needsIndex: true,
  },
];
