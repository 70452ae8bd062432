/** The pictures of a case put together: panes, what moves them, and what they tell. */

import type { Layout, LabelStore, Measurement, Plane, SliceTool, Style, Triple, WindowLevel } from "../contract";
import { Arrival } from "./arriving";
import { Listeners } from "./listeners";
import { PLANES, describeWorld, forwardSign, pictureOf, worldOf } from "./geometry";
import { listenToKeys, type KeyControls } from "./keys";
import { Measurements } from "./measurements";
import { SlicePane } from "./pane";
import { Pointing } from "./pointing";
import type { Scene } from "./scene";
import { Surfaces } from "./scene3d";
import type { CaseSource, MeasureKind, Progress, Viewer } from "./source";
import { fitted, screenOf, zoomed, type Viewport } from "./viewport";

const SPEAK_AFTER_MS = 600;

export class View implements Viewer, KeyControls {
  readonly scene: Scene;
  readonly #began = performance.now();
  readonly #ending = new AbortController();
  readonly #root = document.createElement("div");
  readonly #spoken = document.createElement("div");
  readonly #bar = document.createElement("div");
  readonly #panes: SlicePane[] = [];
  readonly #surfaces: Surfaces;
  readonly #arrival: Arrival;
  readonly #measurements: Measurements;
  readonly #crosshairMoved = new Listeners<[Triple]>();
  readonly #windowChanged = new Listeners<[WindowLevel]>();
  readonly #firstPicture = new Listeners<[number]>();
  readonly #observer: ResizeObserver;
  #firstPictureMs: number | null = null;
  #layout: Layout = "four";
  #frame = 0;
  #speaking = 0;

  constructor(host: HTMLElement, source: CaseSource) {
    const { signal } = this.#ending;
    this.#arrival = new Arrival(source, signal, {
      changed: (what, first, last) => this.#voxelsChanged(what, first, last),
      failed: (problem) => this.#speak(`The scan could not be fetched. ${problem}`),
    });
    this.scene = this.#arrival.scene;
    this.#measurements = new Measurements(this.scene);
    this.#measurements.changed.add(() => this.#refreshTops());
    this.#surfaces = new Surfaces(this.scene, signal);
    for (const plane of PLANES) this.#panes.push(new SlicePane(this.scene, plane, false));
    for (const plane of PLANES) this.#panes.push(new SlicePane(this.scene, plane, true));
    for (const pane of this.#panes) {
      new Pointing(pane, this, signal);
      listenToKeys(pane, this, signal);
    }
    this.#assemble();
    host.replaceChildren(this.#root);
    this.#observer = new ResizeObserver(() => this.redraw());
    this.#observer.observe(this.#root);
    this.setLayout("four");
    this.#arrival.start();
    this.#arrival.onProgress(({ share }) => {
      this.#bar.style.transform = `scaleX(${share})`;
      this.#bar.hidden = share >= 1;
    });
  }

  #assemble(): void {
    this.#root.className = "viewer";
    this.#root.setAttribute("role", "group");
    this.#root.setAttribute("aria-label", "Pictures of the scan");
    this.#spoken.className = "viewer-spoken";
    this.#spoken.setAttribute("aria-live", "polite");
    const progress = document.createElement("div");
    progress.className = "viewer-progress";
    progress.setAttribute("aria-hidden", "true");
    progress.append(this.#bar);
    const order: Plane[] = ["axial", "sagittal", "coronal"];
    const main = order.map((plane) => this.#panes.find((pane) => pane.plane === plane && !pane.beside)!.element);
    const beside = this.#panes.filter((pane) => pane.beside).map((pane) => pane.element);
    this.#root.append(...main, this.#surfaces.element, ...beside, progress, this.#spoken);
  }

  // Voxels

  get geometry() {
    return this.scene.source.geometry;
  }

  get image() {
    return this.scene.image;
  }

  get layers(): ReadonlyMap<number, LabelStore> {
    return this.scene.sets.labels.layers;
  }

  get labels(): LabelStore {
    return this.scene.sets.labels.layers.get(this.scene.activeLayer)!;
  }

  setActiveLayer(layer: number): void {
    if (this.scene.sets.labels.layers.has(layer)) this.scene.activeLayer = layer;
  }

  #voxelsChanged(what: "scan" | "labels", first: number, last: number): void {
    for (const pane of this.#panes) pane.voxelsChanged(what, first, last);
    this.#schedule();
  }

  onProgress(listener: (progress: Progress) => void): () => void {
    return this.#arrival.onProgress(listener);
  }

  retryLoading(): void {
    this.#arrival.start();
  }

  loaded(): Promise<void> {
    return this.#arrival.complete();
  }

  // Where

  get crosshair(): Triple {
    return this.scene.crosshair;
  }

  setCrosshair(index: Triple): void {
    this.#move(index);
    for (const pane of this.#panes) if (pane.visible) pane.keepInSight();
  }

  point(pane: SlicePane, index: Triple): void {
    this.activate(pane.plane);
    this.#move(index);
    for (const other of this.#panes) if (other.visible && other.plane !== pane.plane) other.keepInSight();
  }

  #move(index: Triple): void {
    const before = this.scene.crosshair;
    this.scene.moveTo(index);
    if (before.every((value, axis) => value === this.scene.crosshair[axis])) return;
    this.#refreshTops();
    this.#surfaces.crosshairMoved();
    this.#speakOf(this.scene.active);
    this.#crosshairMoved.tell(this.scene.crosshair);
  }

  onCrosshair(listener: (index: Triple) => void): () => void {
    return this.#crosshairMoved.add(listener);
  }

  /** Forward is to the head, to the front, or to the patient's left. */
  step(plane: Plane, slices: number): void {
    const geometry = this.scene.planes[plane];
    const index = [...this.scene.crosshair] as Triple;
    const to = this.scene.slice(plane) + slices * forwardSign(this.geometry, geometry);
    index[geometry.normal] = Math.min(Math.max(to, 0), geometry.slices - 1);
    this.scene.active = plane;
    this.#move(index);
  }

  describe(index: Triple): string {
    return describeWorld(worldOf(this.geometry.affine, index));
  }

  activePlane(): Plane {
    return this.scene.active;
  }

  activate(plane: Plane): void {
    this.scene.active = plane;
  }

  setActivePlane(plane: Plane): void {
    this.scene.active = plane;
    if (this.#layout === "side-by-side") this.setLayout("side-by-side");
    this.#panes.find((pane) => pane.plane === plane && pane.visible)?.top.focus({ preventScroll: true });
  }

  // How

  window(): WindowLevel {
    return this.scene.window;
  }

  setWindow(window: WindowLevel): void {
    if (!(Number.isFinite(window.lower) && Number.isFinite(window.upper))) return;
    const upper = Math.max(window.upper, window.lower + 1e-3);
    this.scene.window = { lower: window.lower, upper };
    this.#invalidate("scan");
    this.#windowChanged.tell(this.scene.window);
  }

  onWindow(listener: (window: WindowLevel) => void): () => void {
    return this.#windowChanged.add(listener);
  }

  setStyle(style: Partial<Style>): void {
    this.scene.restyle(style);
    this.#arrival.fetchShown();
    this.#invalidate("labels");
    if (style.hidden || style.colours) this.#surfaces.restyle();
    if (style.crosshair !== undefined) this.#surfaces.crosshairMoved();
  }

  setCompared(kind: "reference" | "model"): void {
    this.scene.compared = kind;
    this.#arrival.fetchShown();
    this.#invalidate("labels");
  }

  setInterpolation(interpolation: "smooth" | "voxels"): void {
    this.scene.interpolation = interpolation;
    this.#invalidate("base");
  }

  setLayout(layout: Layout): void {
    this.#layout = layout;
    this.scene.sideBySide = layout === "side-by-side";
    this.#root.dataset["layout"] = layout;
    if (layout === "axial" || layout === "coronal" || layout === "sagittal") this.scene.active = layout;
    for (const pane of this.#panes) pane.element.hidden = !this.#shows(pane);
    this.#surfaces.element.hidden = layout !== "four";
    if (this.#firstPictureMs !== null && layout === "four") this.#surfaces.start();
    this.#arrival.fetchShown();
    this.#invalidate("base");
  }

  #shows(pane: SlicePane): boolean {
    if (this.#layout === "four") return !pane.beside;
    return pane.plane === this.scene.active && (!pane.beside || this.#layout === "side-by-side");
  }

  setTool(tool: SliceTool | null): void {
    this.scene.tool = tool;
    for (const pane of this.#panes) pane.top.style.cursor = pane.beside ? "crosshair" : (tool?.cursor ?? "crosshair");
    this.#refreshTops();
  }

  toolMoved(): void {
    this.#refreshTops();
  }

  zoom(factor: number): void {
    const { active, planes, crosshair } = this.scene;
    const pane = this.#panes.find((one) => one.plane === active && one.visible);
    if (!pane) return;
    const around = screenOf(pane.geometry, pane.viewport, pictureOf(planes[active], crosshair));
    this.look(pane, zoomed(pane.geometry, pane.viewport, factor, around));
  }

  /** Pictures of one plane beside each other stay linked. */
  look(pane: SlicePane, viewport: Viewport): void {
    for (const one of this.#panes) if (one.plane === pane.plane) one.look(viewport);
    this.#schedule();
  }

  resetView(): void {
    for (const pane of this.#panes) {
      pane.look(fitted(pane.geometry, pane.viewport.width, pane.viewport.height));
    }
    this.#surfaces.reset();
    this.#schedule();
  }

  centreOnCrosshair(): void {
    for (const pane of this.#panes) pane.centre();
    this.#schedule();
  }

  refreshSurfaces(values?: readonly number[]): void {
    this.#surfaces.refresh(values);
  }

  // Measurements

  measurements(): readonly Measurement[] {
    return this.#measurements.all();
  }

  measureTool(kind: MeasureKind): SliceTool {
    return this.#measurements.tool(kind);
  }

  markMeasurement(kind: MeasureKind): void {
    const text = this.#measurements.mark(kind);
    this.#speak(
      text ?? `Start marked at ${this.describe(this.crosshair)}. Move the crosshair and measure again to end there.`,
    );
  }

  removeMeasurement(id: number): void {
    this.#measurements.remove(id);
  }

  clearMeasurements(): void {
    this.#measurements.clear();
  }

  onMeasurements(listener: () => void): () => void {
    return this.#measurements.changed.add(listener);
  }

  // Drawing and telling

  redraw(): void {
    this.#invalidate("base");
    this.#surfaces.crosshairMoved();
  }

  #refreshTops(): void {
    this.#invalidate("top");
  }

  #invalidate(what: "scan" | "labels" | "base" | "top"): void {
    for (const pane of this.#panes) pane.invalidate(what);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#frame !== 0 || this.#ending.signal.aborted) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw(): void {
    const drawn = this.#panes.map((pane) => pane.draw());
    if (this.#firstPictureMs !== null || !drawn.some(Boolean)) return;
    this.#firstPictureMs = performance.now() - this.#began;
    this.#firstPicture.tell(this.#firstPictureMs);
    if (this.#layout === "four") this.#surfaces.start();
  }

  onFirstPicture(listener: (milliseconds: number) => void): void {
    if (this.#firstPictureMs !== null) listener(this.#firstPictureMs);
    else this.#firstPicture.add(listener);
  }

  #speakOf(plane: Plane): void {
    window.clearTimeout(this.#speaking);
    this.#speaking = window.setTimeout(() => {
      const pane = this.#panes.find((one) => one.plane === plane && one.visible);
      if (pane) this.#spoken.textContent = pane.label();
    }, SPEAK_AFTER_MS);
  }

  #speak(text: string): void {
    window.clearTimeout(this.#speaking);
    this.#spoken.textContent = text;
  }

  dispose(): void {
    this.#ending.abort();
    cancelAnimationFrame(this.#frame);
    window.clearTimeout(this.#speaking);
    this.#observer.disconnect();
    this.#surfaces.dispose();
    this.#root.remove();
  }
}
