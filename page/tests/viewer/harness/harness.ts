/** What a test in the browser calls: `harness.open(...)`, then `harness.view` is the real viewer. */

import type { Geometry, Plane, Triple } from "../../../src/contract";
import { createCaseView, type Viewer } from "../../../src/viewer";
import { LEFT, MARK, RIGHT, makeSource } from "./body";
import { ellipsoid } from "./mz3";

interface Options {
  geometry: Geometry;
  delayMs?: number;
  surfaces?: boolean;
}

class Harness {
  view: Viewer | null = null;
  readonly mark: Triple = MARK;
  firstPictureMs = -1;
  taps: string[] = [];

  async open({ geometry, delayMs = 0, surfaces = false }: Options): Promise<void> {
    this.view?.dispose();
    this.firstPictureMs = -1;
    const shapes = new Map<number, ArrayBuffer>();
    if (surfaces) {
      shapes.set(1, ellipsoid(LEFT.centre, LEFT.radii));
      shapes.set(2, ellipsoid(RIGHT.centre, RIGHT.radii));
    }
    const source = makeSource(geometry, delayMs, shapes);
    this.view = await createCaseView(document.getElementById("host")!, source);
    this.view.onFirstPicture((milliseconds) => (this.firstPictureMs = milliseconds));
    await this.view.loaded();
    await this.frames(2);
  }

  /** A case of plain numbers, cheap to make: for measuring speed. */
  async openLarge(shape: Triple): Promise<void> {
    this.view?.dispose();
    const [I, J, K] = shape;
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
    await this.view.loaded();
    await this.frames(2);
    void K;
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

  /** CSS pixels of the page where an index lies, from the picture itself: by the viewer's own label after a click. */
  box(plane: Plane): DOMRect {
    return document.querySelector(`[data-plane=${plane}]:not([hidden]) .viewer-top`)!.getBoundingClientRect();
  }

  /** Shares (0 to 1) of the pane where the brightest pixels have their middle: what a person would aim at. */
  brightest(plane: Plane): [number, number] {
    const base = document.querySelector<HTMLCanvasElement>(`[data-plane=${plane}]:not([hidden]) .viewer-base`)!;
    const { data } = base.getContext("2d")!.getImageData(0, 0, base.width, base.height);
    let [count, across, down, most] = [0, 0, 0, 0];
    for (let at = 0; at < data.length; at += 4) most = Math.max(most, data[at]!);
    for (let at = 0; at < data.length; at += 4) {
      if (data[at]! < most - 4) continue;
      count++;
      across += (at / 4) % base.width;
      down += Math.floor(at / 4 / base.width);
    }
    return [(across / count + 0.5) / base.width, (down / count + 0.5) / base.height];
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
