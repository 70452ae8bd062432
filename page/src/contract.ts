/** What the parts of the page say to each other. Indices are of the array (i, j, k); world is LPS in mm. */

export type Triple = [number, number, number];
export type Plane = "axial" | "coronal" | "sagittal";

/** A grid as the server tells it: `affine` (4x4, rows) takes an index to LPS mm. */
export interface Geometry {
  shape: Triple;
  affine: number[][];
  spacingMm: Triple;
}

export interface Structure {
  value: number;
  name: string;
  colour: Triple;
}

/** Changed voxels: flat offsets i + I * (j + J * k), each run of one old and one new value. */
export interface Runs {
  offsets: Uint32Array;
  lengths: Uint32Array;
  before: Uint16Array;
  after: Uint16Array;
}

/** A pointer over a slice. `index` is continuous (voxel centres are whole numbers), `voxel` the voxel under it. */
export interface SlicePointer {
  phase: "down" | "move" | "up" | "hover" | "leave";
  plane: Plane;
  index: Triple;
  voxel: Triple;
  inside: boolean;
  primary: boolean;
  shift: boolean;
  control: boolean;
  alt: boolean;
  pressure: number;
}

/** Draws over a slice in index coordinates of that plane; the viewer turns them into pixels. */
export interface Overlay {
  /** Array axes of the picture's columns and rows. */
  axes: [number, number];
  /** Closed or open lines, points are [along axes[0], along axes[1]] in continuous indices. */
  lines: { points: [number, number][]; closed: boolean; colour: string; width?: number; dashed?: boolean }[];
  dots: { at: [number, number]; colour: string; radius?: number }[];
}

/** A tool that takes the pointer. `handle` returns true where it used the event: then the viewer does not. */
export interface SliceTool {
  name: string;
  cursor: string;
  handle(pointer: SlicePointer): boolean;
  overlay?(plane: Plane, slice: number): Overlay | null;
}

/** Voxels of a case in the browser, i fastest; they fill up as slabs arrive. */
export interface VoxelStore {
  readonly geometry: Geometry;
  readonly data: Int16Array | Uint16Array | Uint8Array;
  /** Stored value * slope + intercept is the intensity. */
  readonly slope: number;
  readonly intercept: number;
  /** True for each slice k that has arrived. */
  readonly loaded: Uint8Array;
}

export interface LabelStore extends VoxelStore {
  readonly data: Uint8Array | Uint16Array;
  /** Puts the new values and says which slices changed to those who listen. */
  apply(runs: Runs): void;
  /** Paints voxels in place (for a stroke that goes on); the caller makes the runs of it. */
  paint(offsets: Uint32Array, value: number): void;
  onChange(listener: (kFirst: number, kLast: number) => void): () => void;
}

export interface WindowLevel {
  lower: number;
  upper: number;
}

export interface Style {
  opacity: number;
  contour: boolean;
  hidden: ReadonlySet<number>;
  colours: ReadonlyMap<number, Triple>;
  /** What is shown over the scan: the labels, the reference, the model's own result, or where two of them differ. */
  shown: "labels" | "reference" | "model" | "difference";
  crosshair: boolean;
}

export type Layout = "four" | "axial" | "coronal" | "sagittal" | "side-by-side";

export interface Measurement {
  id: number;
  kind: "distance" | "intensity";
  from: Triple;
  to: Triple;
  text: string;
}

/** The pictures of a case. The page's other parts know nothing of canvases. */
export interface CaseView {
  readonly geometry: Geometry;
  readonly image: VoxelStore;
  readonly labels: LabelStore;
  readonly crosshair: Triple;
  setCrosshair(index: Triple): void;
  onCrosshair(listener: (index: Triple) => void): () => void;
  setWindow(window: WindowLevel): void;
  onWindow(listener: (window: WindowLevel) => void): () => void;
  setStyle(style: Partial<Style>): void;
  setLayout(layout: Layout): void;
  setTool(tool: SliceTool | null): void;
  /** Steps through the slices of a plane. */
  step(plane: Plane, slices: number): void;
  zoom(factor: number): void;
  resetView(): void;
  activePlane(): Plane;
  redraw(): void;
  onFirstPicture(listener: (milliseconds: number) => void): void;
  measurements(): readonly Measurement[];
  clearMeasurements(): void;
  /** Says where an index is, for a person: "L 12.3, P 40.1, S 7.0 mm". */
  describe(index: Triple): string;
  dispose(): void;
}
