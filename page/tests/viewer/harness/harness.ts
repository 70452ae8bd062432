/** What a test in the browser calls: `harness.open(...)`, then `harness.view` is the real viewer. */

import type { Geometry, Plane, Triple } from "../../../src/contract";
import { createCaseView, type Viewer } from "../../../src/viewer";
import { LEFT, MARK, RIGHT, makeSource } from "./body";
import { ellipsoid } from "./mz3";

interface Options {
  geometry: Geometry;
  refusals?: number;
  surfaces?: boolean;
}

class Harness {
  view: Viewer | null = null;
  readonly mark: Triple = MARK;
  firstPictureMs = -1;
  taps: string[] = [];

  async open({ geometry, refusals = 0, surfaces = false }: Options): Promise<void> {
    this.view?.dispose();
    this.firstPictureMs = -1;
    const shapes = new Map<number, ArrayBuffer>();
    if (surfaces) {
      shapes.set(1, ellipsoid(LEFT.centre, LEFT.radii));
      shapes.set(2, ellipsoid(RIGHT.centre, RIGHT.radii));
    }
    const source = makeSource(geometry, refusals, shapes);
    this.view = await createCaseView(document.getElementById("host")!, source);
    this.view.onFirstPicture((milliseconds) => (this.firstPictureMs = milliseconds));
    if (refusals === 0) await this.view.loaded();
    await this.frames(2);
  }

  /** A case of plain numbers, cheap to make: for measuring speed. */
  async openLarge(shape: Triple): Promise<void> {
    this.view?.dispose();
    const [I, J] = shape;
    const plane = I * J;
    const geometry: Geometry = {
      shape,
      affine: [
        [0.8, 0, 0, -200],
        [0, 0.8, 0, -200],
        [0, 0, 1, -150],
        [0, 0, 0, 1],
      ],
      spacingMm: [0.8, 0.8, 1],
    };
    const one = new Int16Array(plane);
    const labels = new Uint8Array(plane);
    for (let at = 0; at < plane; at++) {
      const [i, j] = [at % I, Math.floor(at / I)];
      one[at] = Math.round(200 * Math.sin(i / 15) * Math.cos(j / 21));
      labels[at] = Math.hypot(i - I / 2, j - J / 2) < I / 4 ? 1 + (Math.floor(i / 40) % 4) : 0;
    }
    const repeat = (source: Int16Array | Uint8Array, count: number): ArrayBuffer => {
      const all = source instanceof Int16Array ? new Int16Array(count * plane) : new Uint8Array(count * plane);
      for (let n = 0; n < count; n++) all.set(source, n * plane);
      return all.buffer as ArrayBuffer;
    };
    this.view = await createCaseView(document.getElementById("host")!, {
      geometry,
      structures: [1, 2, 3, 4].map((value) => ({ value, name: `s${value}`, colour: [60 * value, 255 - 50 * value, 120] })),
      windows: [{ name: "all", lower: -300, upper: 300 }],
      image: { slope: 1, intercept: 0, unit: "HU" },
      layers: [0],
      labelType: "uint8",
      hasReference: false,
      hasModel: false,
      imageSlab: async (from, to) => repeat(one, to - from),
      labelSlab: async ({ from, to }) => repeat(labels, to - from),
    });
    this.view.onFirstPicture((milliseconds) => (this.firstPictureMs = milliseconds));
    await this.view.loaded();
    await this.frames(2);
  }

  frames(count: number): Promise<void> {
    return new Promise((resolve) => {
      const next = (left: number): void => {
        if (left === 0) resolve();
        else requestAnimationFrame(() => next(left - 1));
      };
      next(count);
    });
  }

  /** Slices a second when every frame shows the next one. */
  async scroll(plane: Plane, slices: number): Promise<number> {
    const start = performance.now();
    for (let n = 0; n < slices; n++) {
      this.view!.step(plane, n % 60 < 30 ? 1 : -1);
      await this.frames(1);
    }
    return (1000 * slices) / (performance.now() - start);
  }

  /** The pane on the page. */
  box(plane: Plane): DOMRect {
    return document.querySelector(`[data-plane=${plane}]:not([hidden]) .viewer-top`)!.getBoundingClientRect();
  }

  /** Shares (0 to 1) of the pane where the brightness has its middle: what a person would aim at. */
  brightest(plane: Plane): [number, number] {
    const base = document.querySelector<HTMLCanvasElement>(`[data-plane=${plane}]:not([hidden]) .viewer-base`)!;
    const { data } = base.getContext("2d")!.getImageData(0, 0, base.width, base.height);
    let [sum, across, down] = [0, 0, 0];
    for (let at = 0; at < data.length; at += 4) {
      const grey = data[at]!;
      sum += grey;
      across += grey * ((at / 4) % base.width);
      down += grey * Math.floor(at / 4 / base.width);
    }
    return [(across / sum + 0.5) / base.width, (down / sum + 0.5) / base.height];
  }

  /** Waits for the 3D picture to name a structure; false after twenty seconds. */
  async surfaced(name: string): Promise<boolean> {
    for (let left = 200; left > 0; left--) {
      const said = document.querySelector(".viewer-3d canvas")!.getAttribute("aria-label")!;
      if (said.includes(name)) return true;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return false;
  }

  #before: Uint8ClampedArray[] = [];

  /** How much the slices differ from those of the last call, on average, and how much grey varies in them. */
  compare(): [number, number] {
    const bases = [...document.querySelectorAll<HTMLCanvasElement>(".viewer-pane:not([hidden]) .viewer-base")];
    const now = bases.map((base) => base.getContext("2d")!.getImageData(0, 0, base.width, base.height).data);
    const before = this.#before;
    this.#before = now;
    let [count, differing, sum, squares] = [0, 0, 0, 0];
    now.forEach((data, n) => {
      for (let at = 0; at < data.length; at += 4) {
        count++;
        differing += Math.abs(data[at]! - (before[n]?.[at] ?? 255));
        sum += data[at]!;
        squares += data[at]! ** 2;
      }
    });
    return [differing / count, Math.sqrt(squares / count - (sum / count) ** 2)];
  }

  /** Puts in a tool that takes every pointer and writes down what it got. */
  listen(): void {
    this.taps = [];
    this.view!.setTool({
      name: "listener",
      cursor: "crosshair",
      handle: ({ phase, index, primary }) => {
        this.taps.push(JSON.stringify({ phase, index, primary }));
        return phase !== "hover" && phase !== "leave";
      },
    });
  }
}

(globalThis as unknown as { harness: Harness }).harness = new Harness();
