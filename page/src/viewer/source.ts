/** What the viewer needs of a case, and what it offers beyond `CaseView`. */

import type { CaseView, Geometry, LabelStore, Measurement, Plane, SliceTool, Structure, WindowLevel } from "../contract";

/** Whose labels: what is edited, the reference, or the model's own result. */
export type LabelKind = "labels" | "reference" | "model";

/**
 * Where the voxels of a case come from. Slabs are slices from <= k < to, i fastest, little-endian: int16 for the scan,
 * `labelType` for labels. Fetchers throw where they fail; an aborted one throws an AbortError.
 */
export interface CaseSource {
  geometry: Geometry;
  structures: readonly Structure[];
  /** Presets; the first one is used at the start. */
  windows: readonly { name: string; lower: number; upper: number }[];
  /** Intensity is stored * slope + intercept, in `unit` ("HU", or "" where it has none). */
  image: { slope: number; intercept: number; unit: string };
  /** [0] for one label map; else the value of each structure, whose layer holds 0 and 1. */
  layers: readonly number[];
  labelType: "uint8" | "uint16";
  hasReference: boolean;
  hasModel: boolean;
  imageSlab(from: number, to: number, signal: AbortSignal): Promise<ArrayBuffer>;
  labelSlab(slab: LabelSlabOf, signal: AbortSignal): Promise<ArrayBuffer>;
  /** A structure's surface as MZ3 with vertices in RAS mm. Absent: there is no 3D picture. */
  surface?(value: number, signal: AbortSignal): Promise<ArrayBuffer>;
}

export interface LabelSlabOf {
  kind: LabelKind;
  layer: number;
  from: number;
  to: number;
}

export interface Progress {
  /** Share of the scan's and the labels' slices that have arrived, 0 to 1. */
  share: number;
  /** What could not be fetched, as a sentence; null while all is well. */
  problem: string | null;
}

export type MeasureKind = Measurement["kind"];

/** A keyboard shortcut of a slice that has the focus. */
export interface KeyHelp {
  keys: string;
  does: string;
}

/** What `createCaseView` gives: the contract's view and what the page may use besides. */
export interface Viewer extends CaseView {
  /** The edited labels of each layer; `labels` is the active one's. */
  readonly layers: ReadonlyMap<number, LabelStore>;
  setActiveLayer(layer: number): void;
  /** Takes the pointer to measure: a line in mm, or an ellipse (a click: a point) of intensities. */
  measureTool(kind: MeasureKind): SliceTool;
  /** Measures by keyboard: the first call marks the crosshair as the start, the second one ends there. */
  markMeasurement(kind: MeasureKind): void;
  removeMeasurement(id: number): void;
  onMeasurements(listener: () => void): () => void;
  onProgress(listener: (progress: Progress) => void): () => void;
  /** Tries again what could not be fetched. */
  retryLoading(): void;
  window(): WindowLevel;
  /** Smooth or as voxels; smooth at the start. */
  setInterpolation(interpolation: "smooth" | "voxels"): void;
  /** What the labels are compared with in the difference and side by side. */
  setCompared(kind: "reference" | "model"): void;
  setActivePlane(plane: Plane): void;
  /** Moves the pictures so that the crosshair is in their middle. */
  centreOnCrosshair(): void;
  /** Fetches surfaces again after edits were saved; all where no values are given. */
  refreshSurfaces(values?: readonly number[]): void;
  /** Resolves when the scan and the edited labels have arrived; what fails and is retried only makes it later. */
  loaded(): Promise<void>;
}
