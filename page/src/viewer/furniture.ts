/** What is drawn over a slice: crosshair, letters, scale bar, corner text, a tool's lines, measurements. */

import type { Overlay, Plane } from "../contract";
import { indexOf, pictureOf, type PlaneGeometry } from "./geometry";
import type { Measured } from "./measuring";
import { scaleBar, screenOf, type Viewport } from "./viewport";

/** Each plane's colour: of its name, and of its line in the other pictures. */
export const PLANE_COLOURS: Record<Plane, string> = { axial: "#ff7b72", coronal: "#6fd08c", sagittal: "#f2cc60" };
const INK = "#e4e9ee";
const QUIET = "#a3afbb";
const MEASURE = "#7ee0ff";
const GAP = 14;
const MARGIN = 8;
/** Lines end before the letters at the edges. */
const INSET = 34;

export interface Drawing {
  context: CanvasRenderingContext2D;
  plane: PlaneGeometry;
  viewport: Viewport;
}

const font = (size: number, weight = 400): string => `${weight} ${size}px system-ui, "Segoe UI", Roboto, Arial, sans-serif`;

interface Words {
  at: [number, number];
  align?: CanvasTextAlign;
  baseline?: CanvasTextBaseline;
  colour?: string;
  font?: string;
}

/** Text with a dark rim, so that it can be read over bone and over air. */
function write(context: CanvasRenderingContext2D, text: string, words: Words): void {
  context.font = words.font ?? font(12);
  context.textAlign = words.align ?? "left";
  context.textBaseline = words.baseline ?? "top";
  context.lineJoin = "round";
  context.lineWidth = 3;
  context.strokeStyle = "rgb(0 0 0 / 75%)";
  context.strokeText(text, ...words.at);
  context.fillStyle = words.colour ?? INK;
  context.fillText(text, ...words.at);
}

/** Lines through the crosshair in the colours of the planes that they stand for, with a gap in their middle. */
export function drawCrosshair({ context, plane, viewport }: Drawing, index: readonly number[], planes: Record<Plane, PlaneGeometry>): void {
  const [x, y] = screenOf(plane, viewport, pictureOf(plane, index)).map((at) => Math.round(at) + 0.5) as [number, number];
  const colourOf = (axis: number): string => {
    const across = Object.values(planes).find(({ normal }) => normal === axis);
    return PLANE_COLOURS[across!.plane];
  };
  context.lineWidth = 1;
  context.globalAlpha = 0.85;
  context.strokeStyle = colourOf(plane.column);
  for (const [from, to] of halves(y, viewport.height)) stroke(context, [x, from, x, to]);
  context.strokeStyle = colourOf(plane.row);
  for (const [from, to] of halves(x, viewport.width)) stroke(context, [from, y, to, y]);
  context.globalAlpha = 1;
}

/** What is left of a line along a screen of some length: from the letters to the gap around the crosshair. */
function halves(at: number, length: number): [number, number][] {
  const ends: [number, number][] = [
    [INSET, Math.min(at - GAP, length - INSET)],
    [Math.max(at + GAP, INSET), length - INSET],
  ];
  return ends.filter(([from, to]) => to > from);
}

function stroke(context: CanvasRenderingContext2D, ...lines: [number, number, number, number][]): void {
  context.beginPath();
  for (const [x1, y1, x2, y2] of lines) {
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
  }
  context.stroke();
}

export function drawEdges({ context, plane, viewport }: Drawing): void {
  const { width, height } = viewport;
  const { left, right, top, bottom } = plane.edges;
  const bold = font(Math.min(width, height) < 220 ? 12 : 15, 600);
  write(context, left, { at: [MARGIN, height / 2], baseline: "middle", font: bold });
  write(context, right, { at: [width - MARGIN, height / 2], align: "right", baseline: "middle", font: bold });
  write(context, top, { at: [width / 2, MARGIN], align: "center", font: bold });
  write(context, bottom, { at: [width / 2, height - MARGIN], align: "center", baseline: "bottom", font: bold });
}

export function drawScaleBar({ context, viewport }: Drawing): void {
  const { mm, pixels } = scaleBar(viewport, Math.min(viewport.width * 0.25, 160));
  const x = Math.round(viewport.width - MARGIN - pixels) + 0.5;
  const y = Math.round(viewport.height - MARGIN) - 1.5;
  const end = Math.round(viewport.width - MARGIN) - 0.5;
  for (const [colour, width] of [["rgb(0 0 0 / 75%)", 3.5], [INK, 1.25]] as const) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    stroke(context, [x, y, end, y], [x, y - 5, x, y + 1], [end, y - 5, end, y + 1]);
  }
  write(context, `${mm} mm`, { at: [end, y - 7], align: "right", baseline: "bottom" });
}

export interface CornerLine {
  text: string;
  colour?: string;
  bold?: boolean;
}

export interface Corners {
  topLeft: CornerLine[];
  topRight: CornerLine[];
  bottomLeft: CornerLine[];
}

export function drawCorners({ context, viewport }: Drawing, corners: Corners): void {
  const column = (lines: CornerLine[], x: number, align: CanvasTextAlign, bottom: boolean): void => {
    lines.forEach((line, n) => {
      const y = bottom ? viewport.height - MARGIN - (lines.length - 1 - n) * 16 : MARGIN + n * 16;
      write(context, line.text, {
        at: [x, y],
        align,
        baseline: bottom ? "bottom" : "top",
        colour: line.colour ?? QUIET,
        font: font(12, line.bold ? 600 : 400),
      });
    });
  };
  column(corners.topLeft, MARGIN, "left", false);
  column(corners.topRight, viewport.width - MARGIN, "right", false);
  column(corners.bottomLeft, MARGIN, "left", true);
}

/** A note in the middle: what is still missing, or went wrong. */
export function drawNote({ context, viewport }: Drawing, text: string): void {
  write(context, text, { at: [viewport.width / 2, viewport.height / 2 + 24], align: "center", colour: QUIET, font: font(13) });
}

/** A tool's lines and dots; its points are along the array axes that it names. */
export function drawOverlay(drawing: Drawing, overlay: Overlay, slice: number): void {
  const { context, plane, viewport } = drawing;
  const place = (at: readonly number[]): [number, number] => {
    const index = indexOf(plane, [0, 0], slice);
    index[overlay.axes[0]] = at[0]!;
    index[overlay.axes[1]] = at[1]!;
    return screenOf(plane, viewport, pictureOf(plane, index));
  };
  for (const { points, closed, colour, width, dashed } of overlay.lines) {
    if (points.length === 0) continue;
    context.beginPath();
    points.forEach((point, n) => (n === 0 ? context.moveTo(...place(point)) : context.lineTo(...place(point))));
    if (closed) context.closePath();
    context.lineJoin = "round";
    context.setLineDash(dashed ? [6, 4] : []);
    context.strokeStyle = "rgb(0 0 0 / 55%)";
    context.lineWidth = (width ?? 1.5) + 2;
    if (!dashed) context.stroke();
    context.strokeStyle = colour;
    context.lineWidth = width ?? 1.5;
    context.stroke();
    context.setLineDash([]);
  }
  for (const { at, colour, radius } of overlay.dots) {
    context.beginPath();
    context.arc(...place(at), radius ?? 4, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = "rgb(0 0 0 / 80%)";
    context.stroke();
  }
}

export function drawMeasured(drawing: Drawing, measured: Measured): void {
  const { context, plane, viewport } = drawing;
  const [x1, y1] = screenOf(plane, viewport, pictureOf(plane, measured.from));
  const [x2, y2] = screenOf(plane, viewport, pictureOf(plane, measured.to));
  const outline = (): void => {
    context.beginPath();
    if (measured.kind === "distance") {
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
    } else {
      const [across, down] = [Math.abs(x2 - x1) / 2, Math.abs(y2 - y1) / 2];
      context.ellipse((x1 + x2) / 2, (y1 + y2) / 2, Math.max(across, 3), Math.max(down, 3), 0, 0, 2 * Math.PI);
    }
  };
  for (const [colour, width] of [["rgb(0 0 0 / 70%)", 3.5], [MEASURE, 1.5]] as const) {
    outline();
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
    if (measured.kind === "distance") ends(context, [x1, y1, x2, y2]);
  }
  const right = measured.kind === "distance" ? x2 : Math.max(x1, x2);
  const flip = right > viewport.width - 120;
  write(context, measured.text, {
    at: [flip ? right - 10 : right + 10, (measured.kind === "distance" ? y2 : (y1 + y2) / 2) - 6],
    align: flip ? "right" : "left",
    baseline: "middle",
    colour: MEASURE,
    font: font(13, 600),
  });
}

/** Short bars across both ends of a line. */
function ends(context: CanvasRenderingContext2D, [x1, y1, x2, y2]: [number, number, number, number]): void {
  const length = Math.hypot(x2 - x1, y2 - y1);
  if (length < 1) return;
  const [across, down] = [(-(y2 - y1) / length) * 5, ((x2 - x1) / length) * 5];
  stroke(context, [x1 - across, y1 - down, x1 + across, y1 + down], [x2 - across, y2 - down, x2 + across, y2 + down]);
}
