/** The pictures of a case put together: panes, what moves them, and what they tell. */

import type { Layout, LabelStore, Measurement, Plane, SliceTool, Style, Triple, WindowLevel } from "../contract";
import { Listeners } from "./listeners";
import { PLANES, describeWorld, forwardSign, pictureOf, worldOf } from "./geometry";
import { listenToKeys, type KeyControls } from "./keys";
import { labelSet } from "./labelsets";
import { load } from "./loading";
import { measure, measureTool, nextId } from "./measuretool";
import { SlicePane } from "./pane";
import { Pointing } from "./pointing";
import { Scene, type LabelSets } from "./scene";
import { Surfaces } from "./scene3d";
import type { CaseSource, LabelKind, MeasureKind, Progress, Viewer } from "./source";
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
  readonly #sets: LabelSets;
  readonly #crosshairMoved = new Listeners<[Triple]>();
  readonly #windowChanged = new Listeners<[WindowLevel]>();
  readonly #measured = new Listeners<[]>();
  readonly #progressed = new Listeners<[Progress]>();
  readonly #complete = new Listeners<[]>();
  readonly #firstPicture = new Listeners<[number]>();
  readonly #observer: ResizeObserver;
  #firstPictureMs: number | null = null;
  #layout: Layout = "four";
  #frame = 0;
  #speaking = 0;
  #marked: { kind: MeasureKind; plane: Plane; from: Triple } | null = null;
  #imageLoading: Promise<void> | null = null;
  #problem: string | null = null;

  constructor(host: HTMLElement, source: CaseSource) {
    const { signal } = this.#ending;
    this.#sets = this.#labelSets(source);
    this.scene = new Scene(source, this.#sets);
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
    this.#startLoading();
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
    return this.#sets.labels.layers;
  }

  get labels(): LabelStore {
    return this.#sets.labels.layers.get(this.scene.activeLayer)!;
  }

  setActiveLayer(layer: number): void {
    if (this.#sets.labels.layers.has(layer)) this.scene.activeLayer = layer;
  }

  #labelSets(source: CaseSource): LabelSets {
    const loading = {
      focus: () => this.#focus(),
      signal: this.#ending.signal,
      arrived: (kind: LabelKind, first: number, last: number) => this.#labelsArrived(kind, first, last),
      failed: (problem: unknown) => this.#failed(problem),
    };
    return {
      labels: labelSet(source, "labels", loading),
      reference: labelSet(source, "reference", loading),
      model: labelSet(source, "model", loading),
    };
  }

  #focus(): number {
    return this.scene.crosshair[2];
  }

  #startLoading(): void {
    this.#problem = null;
    void this.#sets.labels.start();
    for (const store of this.#sets.labels.layers.values()) {
      // Once each: a second start keeps the stores and their listeners.
      if (this.#listened.has(store)) continue;
      this.#listened.add(store);
      store.onChange((first, last) => this.#voxelsChanged("labels", first, last));
    }
    this.#loadShown();
    const { source, image } = this.scene;
    this.#imageLoading ??= load({
      store: image,
      sliceBytes: source.geometry.shape[0] * source.geometry.shape[1] * 2,
      parallel: 2,
      focus: () => this.#focus(),
      signal: this.#ending.signal,
      fetch: ({ from, to }, signal) => source.imageSlab(from, to, signal),
      arrived: ({ from, to }) => {
        this.#voxelsChanged("scan", from, to - 1);
        this.#tellProgress();
      },
    })
      .catch((problem: unknown) => this.#failed(problem))
      .finally(() => (this.#imageLoading = null));
  }

  readonly #listened = new Set<LabelStore>();

  /** What is shown besides the edited labels is fetched when it is asked for. */
  #loadShown(): void {
    const { style, compared } = this.scene;
    const wanted = new Set<LabelKind>();
    if (style.shown === "reference" || style.shown === "model") wanted.add(style.shown);
    if (style.shown === "difference" || this.#layout === "side-by-side") wanted.add(compared);
    for (const kind of wanted) {
      const { hasReference, hasModel } = this.scene.source;
      if (kind === "reference" ? hasReference : hasModel) void this.#sets[kind].start();
    }
  }

  #labelsArrived(kind: LabelKind, first: number, last: number): void {
    if (kind !== "labels") this.#voxelsChanged("labels", first, last);
    this.#tellProgress();
  }

  #voxelsChanged(what: "scan" | "labels", first: number, last: number): void {
    for (const pane of this.#panes) pane.voxelsChanged(what, first, last);
    this.#schedule();
  }

  #failed(problem: unknown): void {
    if (this.#ending.signal.aborted) return;
    this.#problem = problem instanceof Error ? problem.message : String(problem);
    this.#speak(`The scan could not be fetched. ${this.#problem}`);
    this.#tellProgress();
  }

  #progress(): Progress {
    const image = this.scene.image.loaded;
    const share = image.filter(Boolean).length / Math.max(image.length, 1);
    return { share: (share + this.#sets.labels.share()) / 2, problem: this.#problem };
  }

  #tellProgress(): void {
    const progress = this.#progress();
    this.#bar.style.transform = `scaleX(${progress.share})`;
    this.#bar.hidden = progress.share >= 1;
    this.#progressed.tell(progress);
    if (progress.share >= 1) this.#complete.tell();
  }

  onProgress(listener: (progress: Progress) => void): () => void {
    listener(this.#progress());
    return this.#progressed.add(listener);
  }

  retryLoading(): void {
    this.#startLoading();
  }

  loaded(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#progress().share >= 1) resolve();
      else this.#complete.add(resolve);
    });
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
    this.#loadShown();
    this.#invalidate("labels");
    if (style.hidden || style.colours) this.#surfaces.restyle();
    if (style.crosshair !== undefined) this.#surfaces.crosshairMoved();
  }

  setCompared(kind: "reference" | "model"): void {
    this.scene.compared = kind;
    this.#loadShown();
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
    this.#loadShown();
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
    return this.scene.measured.filter(({ id }) => id !== 0);
  }

  measureTool(kind: MeasureKind): SliceTool {
    return measureTool(this.scene, kind, () => this.#measurementsChanged());
  }

  markMeasurement(kind: MeasureKind): void {
    const to = this.scene.crosshair;
    const plane = this.scene.active;
    const start = this.#marked;
    if (start === null || start.kind !== kind || start.plane !== plane) {
      this.#marked = { kind, plane, from: to };
      this.#speak(`Start marked at ${this.describe(to)}. Move the crosshair and measure again to end here.`);
      return;
    }
    this.#marked = null;
    const one = measure(this.scene, kind, { plane, from: start.from, to }, nextId());
    this.scene.measured = [...this.scene.measured, one];
    this.#speak(one.text);
    this.#measurementsChanged();
  }

  removeMeasurement(id: number): void {
    this.scene.measured = this.scene.measured.filter((one) => one.id !== id);
    this.#measurementsChanged();
  }

  clearMeasurements(): void {
    this.scene.measured = [];
    this.#measurementsChanged();
  }

  onMeasurements(listener: () => void): () => void {
    return this.#measured.add(listener);
  }

  #measurementsChanged(): void {
    this.#refreshTops();
    this.#measured.tell();
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
