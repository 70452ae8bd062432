/** Mouse, pen, fingers and wheel over a slice: what they mean, and what a tool gets of them. */

import type { Plane, SlicePointer, Triple, WindowLevel } from "../contract";
import { indexOf, voxelOf } from "./geometry";
import type { SlicePane } from "./pane";
import type { Scene } from "./scene";
import { panned, pictureAt, zoomed, type Viewport } from "./viewport";

/** What a picture may ask for. */
export interface Controls {
  readonly scene: Scene;
  point(pane: SlicePane, index: Triple): void;
  step(plane: Plane, slices: number): void;
  look(pane: SlicePane, viewport: Viewport): void;
  setWindow(window: WindowLevel): void;
  activate(plane: Plane): void;
  toolMoved(): void;
}

type Gesture = "tool" | "crosshair" | "window" | "pan" | "pinch";

const WHEEL_NOTCH = 50;
const TRACKPAD_SLICE = 30;

/** How many slices a turn of the wheel means, and what is left over for the next one. */
export function wheelSlices(deltaY: number, mode: number, left: number): { slices: number; left: number } {
  if (mode !== 0 || Math.abs(deltaY) >= WHEEL_NOTCH) {
    const notches = mode === 0 ? Math.round(Math.abs(deltaY) / 120) : 1;
    return { slices: Math.sign(deltaY) * Math.max(notches, 1), left: 0 };
  }
  const sum = left + deltaY;
  const slices = Math.trunc(sum / TRACKPAD_SLICE);
  return { slices: slices + 0, left: sum - slices * TRACKPAD_SLICE };
}

/** The window after a drag: to the right wider, upwards brighter. */
export function draggedWindow({ lower, upper }: WindowLevel, right: number, down: number): WindowLevel {
  const width = upper - lower;
  const next = width * Math.exp(right / 250);
  const level = (lower + upper) / 2 + (down * width) / 400;
  return { lower: level - next / 2, upper: level + next / 2 };
}

export class Pointing {
  readonly #fingers = new Map<number, [number, number]>();
  #gesture: Gesture | null = null;
  #last: [number, number] = [0, 0];
  /** What the tool was told last: an end that tells no place ends there. */
  #told: PointerEvent | null = null;
  #wheelLeft = 0;
  #space = false;

  constructor(
    readonly pane: SlicePane,
    readonly controls: Controls,
    signal: AbortSignal,
  ) {
    const on = <K extends keyof HTMLElementEventMap>(
      type: K,
      handle: (event: HTMLElementEventMap[K]) => void,
      passive = true,
    ): void => pane.top.addEventListener(type, handle, { signal, passive });
    on("pointerdown", (event) => this.#down(event), false);
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", (event) => this.#up(event, this.#told ?? event));
    on("pointerleave", (event) => this.#tell(event, "leave"));
    on("wheel", (event) => this.#wheel(event), false);
    on("contextmenu", (event) => event.preventDefault(), false);
    on("auxclick", (event) => event.preventDefault(), false);
    on("focus", () => controls.activate(pane.plane));
    on("blur", () => (this.#space = false));
    on("keydown", (event) => this.#spaceKey(event, true), false);
    on("keyup", (event) => this.#spaceKey(event, false), false);
  }

  #spaceKey(event: KeyboardEvent, pressed: boolean): void {
    if (event.key !== " ") return;
    event.preventDefault();
    this.#space = pressed;
    this.pane.top.style.cursor = pressed ? "grab" : this.cursor;
  }

  get cursor(): string {
    return this.pane.beside ? "crosshair" : (this.controls.scene.tool?.cursor ?? "crosshair");
  }

  #at(event: MouseEvent): [number, number] {
    const box = this.pane.top.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** Tells the tool; true where it used the event. */
  #tell(event: PointerEvent, phase: SlicePointer["phase"]): boolean {
    const { tool } = this.controls.scene;
    if (!tool || this.pane.beside) return false;
    this.#told = event;
    const used = tool.handle(this.#pointer(event, phase));
    this.controls.toolMoved();
    return used;
  }

  #pointer(event: PointerEvent, phase: SlicePointer["phase"]): SlicePointer {
    const { geometry, plane, viewport } = this.pane;
    const { scene } = this.controls;
    const index = indexOf(geometry, pictureAt(geometry, viewport, this.#at(event)), scene.slice(plane));
    return {
      phase,
      plane,
      index,
      voxel: index.map((value) => Math.round(value) + 0) as Triple,
      inside: voxelOf(scene.source.geometry.shape, index) !== null,
      primary: event.button !== 5 && (event.buttons & 32) === 0,
      shift: event.shiftKey,
      control: event.ctrlKey || event.metaKey,
      alt: event.altKey,
      pressure: event.pressure,
    };
  }

  #down(event: PointerEvent): void {
    event.preventDefault();
    this.pane.top.focus({ preventScroll: true });
    this.controls.activate(this.pane.plane);
    const at = this.#at(event);
    if (event.pointerType === "touch") this.#fingers.set(event.pointerId, at);
    if (this.#gesture !== null && this.#fingers.size < 2) return;
    try {
      this.pane.top.setPointerCapture(event.pointerId);
    } catch {
      // A pointer that has gone already cannot be captured.
    }
    if (this.#fingers.size === 2) {
      if (this.#gesture === "tool") this.#tell(event, "up");
      this.#gesture = "pinch";
      return;
    }
    this.#last = at;
    if (event.button === 1 || (event.button === 0 && this.#space)) this.#gesture = "pan";
    else if (event.button === 2) this.#gesture = "window";
    else if (this.#tell(event, "down")) this.#gesture = "tool";
    else if (event.button === 0) {
      this.#gesture = "crosshair";
      this.#point(event);
    }
  }

  #point(event: PointerEvent): void {
    this.controls.point(this.pane, this.#pointer(event, "move").voxel);
  }

  #move(event: PointerEvent): void {
    const at = this.#at(event);
    const [right, down] = [at[0] - this.#last[0], at[1] - this.#last[1]];
    // Released where nobody told of it, as under another window: nothing is drawn without a button.
    if (this.#gesture !== null && event.pointerType === "mouse" && event.buttons === 0) {
      this.#up(event, this.#told ?? event);
    }
    switch (this.#gesture) {
      case null:
        this.#tell(event, "hover");
        return;
      case "tool":
        for (const one of coalesced(event)) this.#tell(one, "move");
        return;
      case "crosshair":
        this.#point(event);
        return;
      case "window":
        this.controls.setWindow(draggedWindow(this.controls.scene.window, right, down));
        break;
      case "pan":
        this.controls.look(this.pane, panned(this.pane.geometry, this.pane.viewport, right, down));
        break;
      case "pinch":
        this.#pinch(event.pointerId, at);
    }
    this.#last = at;
  }

  #pinch(finger: number, at: [number, number]): void {
    const before = this.#fingers.get(finger);
    const other = [...this.#fingers].find(([id]) => id !== finger)?.[1];
    if (!before || !other) return;
    const apart = (one: [number, number]): number => Math.max(Math.hypot(one[0] - other[0], one[1] - other[1]), 1);
    const { geometry, viewport } = this.pane;
    const middle = [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2];
    const moved = panned(geometry, viewport, (at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    this.#fingers.set(finger, at);
    this.controls.look(this.pane, zoomed(geometry, moved, apart(at) / apart(before), middle));
  }

  #up(event: PointerEvent, at: PointerEvent = event): void {
    this.#fingers.delete(event.pointerId);
    if (this.#gesture === "tool") this.#tell(at, "up");
    if (this.#fingers.size === 0 || this.#gesture !== "pinch") this.#gesture = null;
  }

  #wheel(event: WheelEvent): void {
    if (event.altKey || event.defaultPrevented) return;
    event.preventDefault();
    const { geometry, viewport } = this.pane;
    if (event.ctrlKey || event.metaKey) {
      const turn = Math.min(Math.max(event.deltaY, -50), 50);
      this.controls.look(this.pane, zoomed(geometry, viewport, Math.exp(-turn * 0.005), this.#at(event)));
      return;
    }
    // With shift some browsers turn the wheel's direction aside.
    const { slices, left } = wheelSlices(event.deltaY || event.deltaX, event.deltaMode, this.#wheelLeft);
    this.#wheelLeft = left;
    if (slices !== 0) this.controls.step(this.pane.plane, -slices);
  }
}

/** The moves that the browser put together, so that a fast stroke stays round. */
function coalesced(event: PointerEvent): PointerEvent[] {
  const events = event.getCoalescedEvents?.() ?? [];
  return events.length > 0 ? events : [event];
}
