/** What all pictures of a case share: voxels, window, style, crosshair, measurements. Panes read it; the view writes it. */

import type { Plane, SliceTool, Style, Triple, WindowLevel } from "../contract";
import { PLANES, clampIndex, planeGeometry, voxelOf, type PlaneGeometry } from "./geometry";
import type { LabelSet } from "./labelsets";
import type { Measured } from "./measuring";
import type { CaseSource, LabelKind } from "./source";
import { imageStore, type ImageStore } from "./stores";
import { colourTable, differenceTable, greyTable, shownTable } from "./tables";

export type LabelSets = Record<LabelKind, LabelSet>;

export class Scene {
  readonly image: ImageStore;
  readonly planes: Record<Plane, PlaneGeometry>;
  crosshair: Triple;
  active: Plane = "axial";
  tool: SliceTool | null = null;
  interpolation: "smooth" | "voxels" = "smooth";
  compared: "reference" | "model";
  /** Two pictures of one plane stand beside each other, so that each one says whose labels it shows. */
  sideBySide = false;
  activeLayer: number;
  measured: Measured[] = [];
  style: Style;
  #window: WindowLevel;
  #grey: Uint32Array | null = null;
  #colours: Uint32Array | null = null;
  #difference: Uint32Array | null = null;
  readonly #shown = new Map<number, Uint16Array>();

  constructor(
    readonly source: CaseSource,
    readonly sets: LabelSets,
  ) {
    const { geometry, image, structures, windows } = source;
    this.image = imageStore(geometry, image.slope, image.intercept);
    this.planes = Object.fromEntries(PLANES.map((plane) => [plane, planeGeometry(geometry, plane)])) as Record<
      Plane,
      PlaneGeometry
    >;
    this.crosshair = geometry.shape.map((size) => Math.floor((size - 1) / 2)) as Triple;
    this.compared = source.hasReference ? "reference" : "model";
    this.activeLayer = source.layers[0] ?? 0;
    this.#window = windows[0] ?? { lower: image.intercept - 1000 * image.slope, upper: image.intercept + 1000 * image.slope };
    this.style = {
      opacity: 0.4,
      contour: false,
      hidden: new Set(),
      colours: new Map(structures.map(({ value, colour }) => [value, colour])),
      shown: "labels",
      crosshair: true,
    };
  }

  get window(): WindowLevel {
    return this.#window;
  }

  set window(window: WindowLevel) {
    this.#window = window;
    this.#grey = null;
  }

  restyle(change: Partial<Style>): void {
    this.style = { ...this.style, ...change };
    this.#colours = null;
    this.#difference = null;
    this.#shown.clear();
  }

  grey(): Uint32Array {
    return (this.#grey ??= greyTable(this.#window, this.image.slope, this.image.intercept));
  }

  colours(): Uint32Array {
    return (this.#colours ??= colourTable(this.style.colours, this.style.opacity));
  }

  differenceColours(): Uint32Array {
    return (this.#difference ??= differenceTable(this.style.opacity));
  }

  shown(layer: number): Uint16Array {
    let table = this.#shown.get(layer);
    if (!table) this.#shown.set(layer, (table = shownTable(this.style.hidden, layer)));
    return table;
  }

  slice(plane: Plane): number {
    const { normal, slices } = this.planes[plane];
    return Math.min(Math.max(Math.round(this.crosshair[normal]!), 0), slices - 1);
  }

  moveTo(index: Triple): void {
    this.crosshair = clampIndex(this.source.geometry.shape, index);
  }

  /** Intensity of a voxel; null outside the array and where it has not arrived. */
  intensityAt(index: Triple): number | null {
    const { shape } = this.source.geometry;
    const voxel = voxelOf(shape, index);
    if (!voxel || !this.image.loaded[voxel[2]]) return null;
    const stored = this.image.data[voxel[0] + shape[0] * (voxel[1] + shape[1] * voxel[2])]!;
    return stored * this.image.slope + this.image.intercept;
  }

  /** Names of the structures that the edited labels have at a voxel. */
  structuresAt(index: Triple): string[] {
    const { shape } = this.source.geometry;
    const voxel = voxelOf(shape, index);
    if (!voxel) return [];
    const offset = voxel[0] + shape[0] * (voxel[1] + shape[1] * voxel[2]);
    const names: string[] = [];
    for (const [layer, store] of this.sets.labels.layers) {
      const stored = store.data[offset]!;
      if (stored !== 0) names.push(this.nameOf(layer === 0 ? stored : layer));
    }
    return names;
  }

  nameOf(value: number): string {
    return this.source.structures.find((structure) => structure.value === value)?.name ?? `label ${value}`;
  }
}
