/** Surfaces of the structures in three dimensions, drawn by NiiVue, which is only fetched for this. */

import type { NVMesh, Niivue } from "@niivue/niivue";
import type { Triple } from "../contract";
import { worldOf } from "./geometry";
import type { Scene } from "./scene";

// Long enough that even a slow machine, whose CPU draws in three dimensions, is not asked between two slices.
const CROSSHAIR_WAIT_MS = 350;
const TURN_DEGREES = 10;
const START = { azimuth: 160, elevation: 10 };

export class Surfaces {
  readonly element = document.createElement("div");
  readonly #canvas = document.createElement("canvas");
  readonly #note = document.createElement("p");
  readonly #title = document.createElement("p");
  readonly #meshes = new Map<number, NVMesh>();
  #niivue: Niivue | null = null;
  #read: typeof NVMesh.readMesh | null = null;
  #state: "idle" | "starting" | "ready" | "off" = "idle";
  #timer = 0;
  #fetching = Promise.resolve();
  /** Structures whose surfaces did not come; they are asked for again with the next ones. */
  readonly #missing = new Set<number>();

  constructor(
    readonly scene: Scene,
    readonly signal: AbortSignal,
  ) {
    this.element.className = "viewer-pane viewer-3d";
    this.#canvas.tabIndex = 0;
    this.#canvas.setAttribute("role", "application");
    this.#canvas.setAttribute("aria-roledescription", "picture");
    this.#canvas.setAttribute("aria-label", "3D surfaces; arrow keys turn them, plus and minus zoom");
    this.#note.className = "viewer-note";
    this.#title.className = "viewer-title";
    this.#title.textContent = "3D";
    this.element.append(this.#canvas, this.#title, this.#note);
    this.#canvas.addEventListener("keydown", (event) => this.#key(event), { signal });
  }

  /** Begins where the panel is to be seen; later calls do nothing. */
  start(): void {
    if (this.#state !== "idle" || this.signal.aborted) return;
    if (!this.scene.source.surface) return this.#stop("This case has no surfaces.");
    this.#state = "starting";
    this.#say("loading surfaces …");
    void this.#begin().catch((problem: unknown) => {
      if (!this.signal.aborted) this.#stop(reason(problem));
    });
  }

  async #begin(): Promise<void> {
    if (!hasWebgl2()) return this.#stop("The 3D picture needs WebGL 2, which this browser does not offer.");
    const { Niivue, NVMesh } = await import("@niivue/niivue");
    if (this.signal.aborted) return;
    const niivue = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.44, 0.7, 1, 1],
      crosshairWidth: 0.6,
      crosshairWidthUnit: "mm",
      crosshairGap: 6,
      show3Dcrosshair: true,
      isOrientCube: true,
      sliceType: 4,
      dragAndDropEnabled: false,
      scrollRequiresFocus: false,
      showLegend: false,
      loadingText: "",
      logLevel: "error",
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      viewModeHotKey: "",
    });
    // Its own keys would act on letters that mean something else on this page.
    niivue.keyDownListener = () => {};
    niivue.keyUpListener = () => {};
    await niivue.attachToCanvas(this.#canvas, true);
    if (this.signal.aborted) return niivue.cleanup();
    niivue.setRenderAzimuthElevation(START.azimuth, START.elevation);
    this.#niivue = niivue;
    this.#read = NVMesh.readMesh.bind(NVMesh);
    this.#state = "ready";
    this.refresh();
  }

  /** Fetches surfaces again; one after the other, so that slices are not kept waiting. */
  refresh(values?: readonly number[]): void {
    if (this.#state !== "ready") return;
    const wanted = values ?? this.scene.source.structures.map(({ value }) => value);
    this.#fetching = this.#fetching.then(async () => {
      for (const value of new Set([...wanted, ...this.#missing])) {
        if (this.signal.aborted) return;
        await this.#fetch(value);
      }
      this.#describe();
    });
  }

  async #fetch(value: number): Promise<void> {
    try {
      const bytes = await this.scene.source.surface!(value, this.signal);
      const colour = Uint8Array.from([...this.#colour(value), 255]);
      const visible = !this.scene.style.hidden.has(value);
      const mesh =
        bytes.byteLength === 0
          ? null
          : await this.#read!(bytes, `${value}.mz3`, this.#niivue!.gl, 1, colour, visible);
      if (this.signal.aborted) return;
      this.#missing.delete(value);
      this.#replace(value, mesh);
    } catch {
      // What was shown of it stays, and the others are still worth a picture.
      this.#missing.add(value);
    }
  }

  #replace(value: number, mesh: NVMesh | null): void {
    const old = this.#meshes.get(value);
    if (old) this.#niivue!.removeMesh(old);
    this.#meshes.delete(value);
    if (!mesh) return;
    this.#meshes.set(value, mesh);
    this.#niivue!.addMesh(mesh);
    this.#say("");
    this.crosshairMoved();
  }

  #describe(): void {
    if (this.signal.aborted) return;
    const none = this.#meshes.size === 0;
    if (this.#missing.size > 0) this.#say(`${none ? "The" : "Some"} surfaces could not be fetched.`);
    else this.#say(none ? "There are no surfaces to show." : "");
    const names = [...this.#meshes.keys()].filter((value) => !this.scene.style.hidden.has(value));
    const said = names.map((value) => this.scene.nameOf(value)).join(", ");
    this.#canvas.setAttribute("aria-label", `3D surfaces of ${said || "nothing"}; arrow keys turn them, plus and minus zoom`);
    this.#draw();
  }

  #colour(value: number): Triple {
    return this.scene.style.colours.get(value) ?? [200, 200, 200];
  }

  restyle(): void {
    if (!this.#niivue) return;
    for (const [value, mesh] of this.#meshes) {
      mesh.visible = !this.scene.style.hidden.has(value);
      const [red, green, blue] = this.#colour(value);
      mesh.rgba255 = Uint8Array.from([red, green, blue, 255]);
      mesh.updateMesh(this.#niivue.gl);
    }
    this.#describe();
  }

  /** Moves the marker when scrolling has stopped, so that it is not slowed down by it. */
  crosshairMoved(): void {
    if (!this.#niivue) return;
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => {
      if (this.signal.aborted || !this.#niivue || this.#meshes.size === 0) return;
      const [left, posterior, superior] = worldOf(this.scene.source.geometry.affine, this.scene.crosshair);
      const share = this.#niivue.mm2frac([-left, -posterior, superior]);
      const inside = [0, 1, 2].every((axis) => share[axis]! >= 0 && share[axis]! <= 1);
      this.#niivue.opts.show3Dcrosshair = inside && this.scene.style.crosshair;
      this.#niivue.scene.crosshairPos = share;
      this.#draw();
    }, CROSSHAIR_WAIT_MS);
  }

  zoom(factor: number): void {
    if (!this.#niivue) return;
    const scale = this.#niivue.scene.volScaleMultiplier * factor;
    this.#niivue.setScale(Math.min(Math.max(scale, 0.2), 8));
  }

  reset(): void {
    this.#niivue?.setRenderAzimuthElevation(START.azimuth, START.elevation);
    this.#niivue?.setScale(1);
  }

  #key(event: KeyboardEvent): void {
    const turns: Record<string, [number, number]> = {
      ArrowLeft: [-TURN_DEGREES, 0],
      ArrowRight: [TURN_DEGREES, 0],
      ArrowUp: [0, TURN_DEGREES],
      ArrowDown: [0, -TURN_DEGREES],
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#niivue) return;
    const turn = turns[event.key];
    if (turn) {
      const { renderAzimuth, renderElevation } = this.#niivue.scene;
      this.#niivue.setRenderAzimuthElevation(renderAzimuth + turn[0], renderElevation + turn[1]);
    } else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
  }

  #draw(): void {
    if (!this.element.hidden) this.#niivue?.drawScene();
  }

  #say(text: string): void {
    this.#note.textContent = text;
    this.#note.hidden = text === "";
  }

  #stop(text: string): void {
    this.#state = "off";
    this.#canvas.hidden = true;
    this.#say(text);
  }

  dispose(): void {
    window.clearTimeout(this.#timer);
    const context = this.#niivue?.gl.getExtension("WEBGL_lose_context");
    this.#niivue?.cleanup();
    // Browsers keep few WebGL contexts at once; this one is not needed any more.
    context?.loseContext();
    this.#niivue = null;
  }
}

function hasWebgl2(): boolean {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("webgl2");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return context !== null;
}

function reason(problem: unknown): string {
  const text = problem instanceof Error ? problem.message : String(problem);
  return `The 3D picture could not be made: ${text}`;
}
