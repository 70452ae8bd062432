/** One picture of a plane: the slice on one canvas, what lies over it on another, so that a moving cursor is cheap. */

import type { Plane, WindowLevel } from "../contract";
import type { Outline } from "./rasters";
import { Rasters } from "./rasters";
import {
  PLANE_COLOURS,
  drawCorners,
  drawCrosshair,
  drawEdges,
  drawMeasured,
  drawNote,
  drawOverlay,
  drawScaleBar,
  type Corners,
  type Drawing,
} from "./furniture";
import { describeWorld, pictureOf, worldOf, type PlaneGeometry } from "./geometry";
import { round } from "./measuring";
import type { Scene } from "./scene";
import { arrived } from "./slices";
import type { LabelKind } from "./source";
import { DIFFERENCE, css } from "./tables";
import { centredOn, fitted, resized, screenOf, type Viewport } from "./viewport";

const NAMES: Record<LabelKind, string> = { labels: "Labels", reference: "Reference", model: "Model's result" };
const TITLES: Record<Plane, string> = { axial: "Axial", coronal: "Coronal", sagittal: "Sagittal" };

export class SlicePane {
  readonly element = document.createElement("div");
  readonly top = document.createElement("canvas");
  readonly geometry: PlaneGeometry;
  readonly #base = document.createElement("canvas");
  readonly #baseContext: CanvasRenderingContext2D;
  readonly #topContext: CanvasRenderingContext2D;
  #kept: Rasters | null = null;
  viewport: Viewport;
  #stale = { scan: true, labels: true, base: true, top: true };
  #slice = -1;

  /** `beside`: shows what the labels are compared with, whatever the style says. */
  constructor(
    readonly scene: Scene,
    readonly plane: Plane,
    readonly beside: boolean,
  ) {
    this.geometry = scene.planes[plane];
    this.viewport = fitted(this.geometry, 100, 100);
    this.element.className = "viewer-pane";
    this.element.dataset["plane"] = plane;
    this.#base.className = "viewer-base";
    this.#base.setAttribute("aria-hidden", "true");
    this.top.className = "viewer-top";
    this.top.tabIndex = 0;
    this.top.setAttribute("role", "application");
    this.top.setAttribute("aria-roledescription", "picture");
    this.element.append(this.#base, this.top);
    this.#baseContext = this.#base.getContext("2d", { alpha: false })!;
    this.#topContext = this.top.getContext("2d")!;
  }

  /** Made when the pane is first drawn: most layouts show few panes. */
  get #rasters(): Rasters {
    return (this.#kept ??= new Rasters(this.scene, this.plane));
  }

  get shown(): LabelKind | "difference" {
    return this.beside ? this.scene.compared : this.scene.style.shown;
  }

  get visible(): boolean {
    return !this.element.hidden;
  }

  /** What changed; everything that depends on it is drawn anew in the next frame. */
  invalidate(what: "scan" | "labels" | "base" | "top"): void {
    this.#stale[what] = true;
  }

  /** Slices k that changed, of the scan or of the labels. */
  voxelsChanged(what: "scan" | "labels", first: number, last: number): void {
    const inside = this.geometry.normal !== 2 || (this.#slice >= first && this.#slice <= last);
    if (inside) this.#stale[what] = true;
  }

  look(viewport: Viewport): void {
    this.viewport = viewport;
    this.#stale.base = true;
  }

  /** Moves the picture where the crosshair would be out of sight. */
  keepInSight(): void {
    const [x, y] = screenOf(this.geometry, this.viewport, pictureOf(this.geometry, this.scene.crosshair));
    const { width, height } = this.viewport;
    if (x < 4 || y < 4 || x > width - 4 || y > height - 4) this.centre();
  }

  centre(): void {
    this.look(centredOn(this.geometry, this.viewport, pictureOf(this.geometry, this.scene.crosshair)));
  }

  /** Fits the canvases to the element; false where it has no room. */
  #fit(): boolean {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width < 2 || height < 2) return false;
    const ratio = window.devicePixelRatio || 1;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.#base.width !== across || this.#base.height !== down) {
      for (const canvas of [this.#base, this.top]) [canvas.width, canvas.height] = [across, down];
      this.#stale.base = true;
    }
    if (this.viewport.width !== width || this.viewport.height !== height) {
      this.look(resized(this.geometry, this.viewport, width, height));
    }
    return true;
  }

  /** Draws what is stale; true where a slice of the scan was shown. */
  draw(): boolean {
    if (!this.visible || !this.#fit()) return false;
    const stale = this.#stale;
    const slice = this.scene.slice(this.plane);
    if (slice !== this.#slice) stale.scan = stale.labels = true;
    this.#slice = slice;
    const there = arrived(this.scene.image.loaded, this.geometry, slice);
    if (stale.scan) this.#rasters.readScan(slice);
    if (stale.labels) this.#rasters.readLabels(slice, this.shown);
    if (stale.scan || stale.labels || stale.base) this.#drawBase(there !== "none");
    if (stale.scan || stale.labels || stale.base || stale.top) this.#drawTop(there);
    this.#stale = { scan: false, labels: false, base: false, top: false };
    return there !== "none";
  }

  #drawBase(there: boolean): void {
    const context = this.#baseContext;
    const ratio = this.#base.width / this.viewport.width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.viewport.width, this.viewport.height);
    if (!there) return;
    const { geometry, viewport } = this;
    const [x, y] = screenOf(geometry, viewport, [-0.5, -0.5]);
    const [width, height] = [geometry.columns * geometry.width, geometry.rows * geometry.height].map(
      (mm) => mm * viewport.scale,
    ) as [number, number];
    context.imageSmoothingEnabled = this.scene.interpolation === "smooth";
    context.drawImage(this.#rasters.scan, x, y, width, height);
    context.imageSmoothingEnabled = false;
    if (this.#rasters.labels) context.drawImage(this.#rasters.labels, x, y, width, height);
    for (const outline of this.#rasters.outlines) this.#drawOutline(context, outline);
  }

  #drawOutline(context: CanvasRenderingContext2D, { lines, colour, dashed }: Outline): void {
    context.beginPath();
    for (const line of lines) {
      for (let n = 0; n < line.length; n += 2) {
        const at = screenOf(this.geometry, this.viewport, [line[n]!, line[n + 1]!]);
        if (n === 0) context.moveTo(...at);
        else context.lineTo(...at);
      }
      context.closePath();
    }
    context.setLineDash(dashed ? [5, 4] : []);
    context.lineJoin = "bevel";
    context.lineWidth = 1.5;
    context.strokeStyle = colour;
    context.stroke();
    context.setLineDash([]);
  }

  #drawTop(there: "all" | "some" | "none"): void {
    const { scene, geometry, viewport } = this;
    const context = this.#topContext;
    const ratio = this.top.width / viewport.width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, viewport.width, viewport.height);
    const drawing: Drawing = { context, plane: geometry, viewport };
    if (scene.style.crosshair) drawCrosshair(drawing, scene.crosshair, scene.planes);
    for (const measured of scene.measured) {
      if (measured.plane === this.plane && measured.slice === this.#slice) drawMeasured(drawing, measured);
    }
    const overlay = this.beside ? null : scene.tool?.overlay?.(this.plane, this.#slice);
    if (overlay) drawOverlay(drawing, overlay, this.#slice);
    drawEdges(drawing);
    drawScaleBar(drawing);
    drawCorners(drawing, this.#corners());
    if (there === "none") drawNote(drawing, "loading …");
    this.top.setAttribute("aria-label", this.label());
  }

  #corners(): Corners {
    const { scene, geometry } = this;
    const small = this.viewport.width < 260;
    const topLeft = [
      { text: TITLES[this.plane], colour: PLANE_COLOURS[this.plane], bold: true },
      { text: `${this.#slice + 1} / ${geometry.slices}` },
    ];
    if (!small) topLeft.push({ text: this.#position() });
    const named = this.beside || scene.sideBySide || this.shown !== "labels";
    const topRight = small ? [] : windowLines(scene.window);
    if (named) {
      const name = this.shown === "difference" ? "Difference" : NAMES[this.shown];
      topRight.unshift({ text: name, colour: "#6fb3ff", bold: true });
    }
    const bottomLeft = this.shown === "difference" && !small ? legend(NAMES[scene.compared].toLowerCase()) : [];
    const value = this.#value();
    if (value !== "") bottomLeft.push({ text: value });
    return { topLeft, topRight, bottomLeft };
  }

  /** "S 12.5 mm": where the slice lies across the plane. */
  #position(): string {
    const world = worldOf(this.geometry3d.affine, this.scene.crosshair);
    const part = { sagittal: 0, coronal: 1, axial: 2 }[this.plane];
    return `${describeWorld(world).replace(" mm", "").split(", ")[part]} mm`;
  }

  /** "41 HU · liver" at the crosshair. */
  #value(): string {
    const { scene } = this;
    const intensity = scene.intensityAt(scene.crosshair);
    if (intensity === null) return "";
    const parts = [`${round(intensity)} ${scene.source.image.unit}`.trim(), ...scene.structuresAt(scene.crosshair)];
    return parts.join(" · ");
  }

  private get geometry3d() {
    return this.scene.source.geometry;
  }

  /** What a screen reader says of the picture. */
  label(): string {
    const { scene } = this;
    const what = this.beside || this.shown !== "labels" ? `, ${this.shown}` : "";
    const at = describeWorld(worldOf(this.geometry3d.affine, scene.crosshair));
    return [`${TITLES[this.plane]}${what}`, `slice ${this.#slice + 1} of ${this.geometry.slices}`, at, this.#value()]
      .filter((part) => part !== "")
      .join(", ");
  }
}

function windowLines({ lower, upper }: WindowLevel): Corners["topRight"] {
  return [{ text: `W ${round(upper - lower)}  L ${round((upper + lower) / 2)}` }];
}

function legend(other: string): Corners["bottomLeft"] {
  const texts = new Map([
    [2, "only in the labels"],
    [3, other === "reference" ? "only in the reference" : "only in the model's result"],
    [4, "another structure"],
  ]);
  return [...texts].map(([kind, text]) => ({ text: `■ ${text}`, colour: css(DIFFERENCE.get(kind)!.colour) }));
}
