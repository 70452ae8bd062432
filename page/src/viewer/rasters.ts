/** What a pane shows of a slice, as rasters: the scan in grey, labels in colours, their outlines. */

import type { Plane } from "../contract";
import { contours, type Line } from "./contours";
import type { PlaneGeometry } from "./geometry";
import type { Scene } from "./scene";
import { compare, copySlice, paintSlice, tint } from "./slices";
import type { LabelKind } from "./source";
import { DIFFERENCE, UNNAMED, css } from "./tables";

export interface Outline {
  lines: Line[];
  colour: string;
  dashed: boolean;
}

/** A picture's size in voxels, and a canvas that holds it. */
interface Sheet {
  canvas: HTMLCanvasElement;
  context: CanvasRenderingContext2D;
  image: ImageData;
  words: Uint32Array;
}

function sheet({ columns, rows }: PlaneGeometry): Sheet {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  // In memory: every slice is written anew, so that a copy on the graphics card would only cost a way there and back.
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  const image = context.createImageData(columns, rows);
  return { canvas, context, image, words: new Uint32Array(image.data.buffer) };
}

/** The rasters of one plane; kept from slice to slice so that scrolling allocates nothing. */
export class Rasters {
  readonly geometry: PlaneGeometry;
  readonly #scan: Sheet;
  readonly #labels: Sheet;
  readonly #first: Uint16Array;
  readonly #second: Uint16Array;
  readonly #result: Uint16Array;
  #anyLabel = false;
  outlines: Outline[] = [];

  constructor(
    readonly scene: Scene,
    plane: Plane,
  ) {
    this.geometry = scene.planes[plane];
    this.#scan = sheet(this.geometry);
    this.#labels = sheet(this.geometry);
    const size = this.geometry.columns * this.geometry.rows;
    this.#first = new Uint16Array(size);
    this.#second = new Uint16Array(size);
    this.#result = new Uint16Array(size);
  }

  get scan(): HTMLCanvasElement {
    return this.#scan.canvas;
  }

  /** Null where no label is filled in this slice. */
  get labels(): HTMLCanvasElement | null {
    return this.#anyLabel ? this.#labels.canvas : null;
  }

  readScan(slice: number): void {
    paintSlice(this.scene.image, this.geometry, slice, this.scene.grey(), this.#scan.words);
    this.#scan.context.putImageData(this.#scan.image, 0, 0);
  }

  readLabels(slice: number, shown: LabelKind | "difference"): void {
    const { words, context, image } = this.#labels;
    if (this.#anyLabel) words.fill(0);
    this.outlines = [];
    this.#anyLabel = false;
    for (const layer of this.scene.source.layers) {
      if (shown === "difference") this.#addDifference(layer, slice);
      else this.#addLayer(shown, layer, slice);
    }
    if (this.#anyLabel) context.putImageData(image, 0, 0);
  }

  #read(kind: LabelKind, layer: number, slice: number, out: Uint16Array): boolean {
    const store = this.scene.sets[kind].layers.get(layer);
    if (store) return copySlice(store, this.geometry, slice, this.scene.shown(layer), out);
    out.fill(0);
    return false;
  }

  #addLayer(kind: LabelKind, layer: number, slice: number): void {
    if (!this.#read(kind, layer, slice, this.#first)) return;
    if (this.scene.style.contour) {
      this.#outline(this.#first, false, null);
      return;
    }
    tint(this.#first, this.scene.colours(), this.#labels.words);
    this.#anyLabel = true;
  }

  #addDifference(layer: number, slice: number): void {
    const edited = this.#read("labels", layer, slice, this.#first);
    const other = this.#read(this.scene.compared, layer, slice, this.#second);
    if (!edited && !other) return;
    if (this.scene.style.contour) {
      this.#outline(this.#first, false, css(DIFFERENCE.get(2)!.colour));
      this.#outline(this.#second, true, css(DIFFERENCE.get(3)!.colour));
      return;
    }
    if (!compare(this.#first, this.#second, this.#result)) return;
    tint(this.#result, this.scene.differenceColours(), this.#labels.words);
    this.#anyLabel = true;
  }

  #outline(values: Uint16Array, dashed: boolean, colour: string | null): void {
    const { columns, rows } = this.geometry;
    for (const [value, lines] of contours({ values, columns, rows })) {
      this.outlines.push({ lines, colour: colour ?? css(this.scene.style.colours.get(value) ?? UNNAMED), dashed });
    }
  }
}
