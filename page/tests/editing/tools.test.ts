import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { LabelStore, Plane, SlicePointer, Triple, VoxelStore } from "../../src/contract";
import { BrushTool } from "../../src/editing/brushTool";
import { LassoTool } from "../../src/editing/lassoTool";
import { PromptTool } from "../../src/editing/promptTool";
import { NO_PROMPTS, voxelsBetween, withBox, type Prompts } from "../../src/editing/prompts";
import { Proposals, type ProposalAnswer, type ProposalState } from "../../src/editing/proposals";
import { paintRuns } from "../../src/editing/runs";
import { planeAxes, type DrawingSettings, type FinishedChange, type Workplace } from "../../src/editing/workplace";
import { GEOMETRY, SHAPE, VOXELS, indexOf, offsetOf, put } from "./shapes";

const ACTIVE = { structure: 2, layer: 0, value: 2, colour: "red" };

function workplace(change: Partial<DrawingSettings> = {}) {
  const data = new Uint8Array(VOXELS);
  const whole = { geometry: GEOMETRY, slope: 2, intercept: -10, loaded: new Uint8Array(SHAPE[2]).fill(1) };
  const labels: LabelStore = {
    ...whole,
    data,
    apply: (runs) => put(data, runs),
    paint: (offsets, value) => offsets.forEach((offset) => (data[offset] = value)),
    onChange: () => () => undefined,
  };
  // Stored values are the offsets along i: 0 to 6, intensities -10 to 2.
  const image: VoxelStore = { ...whole, data: Int16Array.from({ length: VOXELS }, (_, offset) => offset % SHAPE[0]) };
  const settings: DrawingSettings = {
    radiusMm: 0.1,
    shape: "disc",
    over: "background",
    erases: "active",
    limits: { lower: -6, upper: 0 },
    ...change,
  };
  const done: FinishedChange[] = [];
  const said: string[] = [];
  const place: Workplace = {
    geometry: GEOMETRY,
    image,
    labels: () => labels,
    active: () => ACTIVE,
    settings: () => settings,
    hidden: () => new Set(),
    commit: (finished) => done.push(finished),
    redraw: () => undefined,
    say: (text) => said.push(text),
  };
  return { place, data, done, said };
}

function pointer(phase: SlicePointer["phase"], index: Triple, change: Partial<SlicePointer> = {}): SlicePointer {
  const keys = { shift: false, control: false, alt: false };
  const voxel = index.map(Math.round) as Triple;
  return { phase, plane: "axial", index, voxel, inside: true, primary: true, pressure: 0.5, ...keys, ...change };
}

const painted = (data: Uint8Array, value = 2) =>
  [...data.keys()].filter((offset) => data[offset] === value).map((offset) => indexOf(offset));

describe("the brush", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("hands in a stroke whose end was never told when the next one begins", () => {
    const { place, data, done } = workplace();
    const brush = new BrushTool("brush", place);
    brush.handle(pointer("down", [1, 2, 1]));
    brush.handle(pointer("down", [4, 2, 1]));
    brush.handle(pointer("up", [4, 2, 1]));
    expect(done.map(({ runs }) => [...runs.offsets])).toEqual([[offsetOf(1, 2, 1)], [offsetOf(4, 2, 1)]]);
    expect(painted(data).length).toBe(2);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("hands in one stroke, from press to release, without gaps", () => {
    const { place, data, done } = workplace();
    const brush = new BrushTool("brush", place);
    brush.handle(pointer("down", [1, 2, 1]));
    brush.handle(pointer("up", [4, 2, 1]));
    expect(painted(data)).toEqual([1, 2, 3, 4].map((i) => [i, 2, 1]));
    expect(done.map(({ tool, runs }) => [tool, [...runs.offsets], [...runs.lengths]])).toEqual([
      ["brush", [offsetOf(1, 2, 1)], [4]],
    ]);
  });

  it("hands in a long stroke piece by piece, each once", () => {
    const { place, done } = workplace();
    const brush = new BrushTool("brush", place);
    brush.handle(pointer("down", [1, 2, 1]));
    vi.advanceTimersByTime(2100);
    brush.handle(pointer("move", [2, 2, 1]));
    vi.advanceTimersByTime(4100);
    brush.handle(pointer("up", [3, 2, 1]));
    expect(done.map(({ runs }) => [...runs.offsets])).toEqual([1, 2, 3].map((i) => [offsetOf(i, 2, 1)]));
    vi.advanceTimersByTime(9000);
    expect(done.length).toBe(3);
  });

  it("erases with Shift, and only the active structure unless told otherwise", () => {
    const { place, data, done } = workplace();
    data.fill(1).fill(2, 0, 4);
    const brush = new BrushTool("brush", place);
    brush.act([3, 0, 0], "axial", true);
    brush.act([4, 0, 0], "axial", true);
    expect([...data.subarray(0, 6)]).toEqual([2, 2, 2, 0, 1, 1]);
    expect(done.map(({ tool }) => tool)).toEqual(["eraser"]);
  });

  it("with a threshold paints only intensities between the limits", () => {
    const { place, data } = workplace({ radiusMm: 9, limits: { lower: -6, upper: 0 } });
    new BrushTool("threshold_brush", place).act([3, 2, 1], "axial", false);
    expect(new Set(painted(data).map(([i]) => i))).toEqual(new Set([2, 3, 4, 5]));
  });

  it("leaves other buttons and keys to the picture", () => {
    const { place, done } = workplace();
    const brush = new BrushTool("brush", place);
    for (const change of [{ primary: false }, { control: true }, { alt: true }]) {
      expect(brush.handle(pointer("down", [1, 2, 1], change))).toBe(false);
    }
    expect(done).toEqual([]);
  });

  it("shows its size in the slice under the pointer only", () => {
    const { place } = workplace({ radiusMm: 2 });
    const brush = new BrushTool("brush", place);
    brush.handle(pointer("hover", [3, 2, 1]));
    const { axes, normal } = planeAxes(GEOMETRY, "axial");
    const overlay = brush.overlay("axial", 1)!;
    const far = overlay.lines[0]!.points.map(([a, b]) =>
      Math.hypot((a - 3) * GEOMETRY.spacingMm[axes[0]]!, (b - 2) * GEOMETRY.spacingMm[axes[1]]!),
    );
    expect(normal).toBe(2);
    far.forEach((mm) => expect(mm).toBeCloseTo(2, 9));
    expect([brush.overlay("axial", 2), brush.overlay("coronal", 2)]).toEqual([null, null]);
  });
});

describe("the lasso", () => {
  const round: Triple[] = [[0.6, 0.6, 2], [4.4, 0.6, 2], [4.4, 3.4, 2], [0.6, 3.4, 2]];

  it("fills what the pointer goes round", () => {
    const { place, data, done } = workplace();
    const lasso = new LassoTool(place);
    lasso.handle(pointer("down", round[0]!));
    for (const at of round.slice(1)) lasso.handle(pointer("move", at));
    lasso.handle(pointer("up", round[0]!));
    expect(painted(data).length).toBe(4 * 3);
    expect(painted(data).every(([, , k]) => k === 2)).toBe(true);
    expect(done.map(({ tool }) => tool)).toEqual(["lasso"]);
  });

  it("goes from corner to corner by keyboard; the last one once more closes it", () => {
    const { place, data } = workplace();
    const lasso = new LassoTool(place);
    for (const at of [[0, 0, 2], [4, 0, 2], [0, 4, 2], [0, 4, 2]] as Triple[]) lasso.act(at, "axial", false);
    expect(painted(data).length).toBeGreaterThan(5);
    expect(lasso.cancel()).toBe(false);
  });
});

describe("prompts", () => {
  const drag = (from: Triple, to: Triple, plane: Plane) => ({ from, to, plane });

  it("of a box are as deep as the shorter side in mm, and a second drawing sets the depth", () => {
    const once = withBox(NO_PROMPTS, drag([0, 0, 1], [5, 3, 1], "axial"), GEOMETRY);
    expect(once.box).toEqual({ start: [0, 0, 0], stop: [6, 4, 3] });
    const normal = planeAxes(GEOMETRY, "coronal").normal;
    expect(normal).toBe(1);
    const twice = withBox(once, drag([1, 2, 1], [4, 2, 3], "coronal"), GEOMETRY);
    expect(twice.box).toEqual({ start: [1, 0, 1], stop: [5, 4, 4] });
  });

  it("on the way between two voxels leave none out", () => {
    const way = voxelsBetween([0, 0, 1], [4, -2, 1]);
    expect([way[0], way.at(-1)]).toEqual([[0, 0, 1], [4, -2, 1]]);
    way.slice(1).forEach((at, n) => expect(Math.max(...at.map((x, axis) => Math.abs(x - way[n]![axis]!)))).toBe(1));
  });

  it("are clicks, with Shift of what does not belong, and scribbles of every voxel passed", () => {
    const { place } = workplace();
    let prompts: Prompts = NO_PROMPTS;
    const host = { prompts: () => prompts, prompt: (next: Prompts) => void (prompts = next) };
    const click = new PromptTool("point", place, host);
    click.handle(pointer("down", [1, 2, 1], { shift: true }));
    click.handle(pointer("up", [1, 2, 1]));
    const scribble = new PromptTool("scribble", place, host);
    scribble.handle(pointer("down", [1, 2, 1]));
    scribble.handle(pointer("move", [3, 2, 1]));
    scribble.handle(pointer("up", [3.2, 2, 1]));
    expect(prompts.points).toEqual([{ index: [1, 2, 1], positive: false }]);
    expect(prompts.scribbles).toEqual([{ indices: [1, 2, 3].map((i) => [i, 2, 1]), positive: true }]);
  });
});

describe("a proposal", () => {
  function proposals(answers: (prompts: Prompts) => Promise<ProposalAnswer>) {
    const { place, data, done } = workplace();
    const states: ProposalState[] = [];
    const made = new Proposals({
      geometry: GEOMETRY,
      active: () => ACTIVE,
      data: () => data,
      ask: answers,
      accept: (change) => {
        put(data, change.runs);
        done.push(change);
      },
      onState: (state) => states.push(state),
      redraw: place.redraw,
      say: place.say,
    });
    return { made, data, done, states };
  }
  const point = (i: number): Prompts => ({ ...NO_PROMPTS, points: [{ index: [i, 2, 1], positive: true }] });
  const answer = (prompts: Prompts): ProposalAnswer => ({
    runs: paintRuns([offsetOf(prompts.points[0]!.index[0], 2, 1)], new Uint8Array(VOXELS), 2),
    seconds: 0.1,
    method: "geodesic",
  });

  it("is shown dashed and taken only when accepted, upon the labels as they are by then", async () => {
    const { made, data, done, states } = proposals(async (prompts) => answer(prompts));
    made.prompt(point(3));
    await vi.waitFor(() => expect(states.at(-1)!.step).toBe("shown"));
    expect(made.overlay("axial", 1)!.lines.length).toBeGreaterThan(1);
    expect(made.overlay("axial", 2)!.lines).toEqual([]);
    expect(painted(data)).toEqual([]);
    data[offsetOf(3, 2, 1)] = 1;
    expect(made.accept()).toBe(true);
    expect(painted(data)).toEqual([[3, 2, 1]]);
    expect([...done[0]!.runs.before]).toEqual([1]);
    expect([made.open, made.accept()]).toEqual([false, false]);
  });

  it("of older hints is not shown once newer ones were given", async () => {
    const late: ((value: ProposalAnswer) => void)[] = [];
    const { made, states } = proposals(() => new Promise((resolve) => late.push(resolve)));
    made.prompt(point(1));
    made.prompt(point(5));
    late[1]!(answer(point(5)));
    await vi.waitFor(() => expect(states.at(-1)!.step).toBe("shown"));
    late[0]!(answer(point(1)));
    await Promise.resolve();
    made.accept();
    expect(states.filter(({ step }) => step === "shown").length).toBe(1);
  });

  it("that is dropped changes nothing, and one that fails says why", async () => {
    const { made, done, states } = proposals(async () => {
      throw new Error("There is no promptable model.");
    });
    made.prompt(point(1));
    await vi.waitFor(() => expect(states.at(-1)).toEqual({ step: "failed", text: "There is no promptable model." }));
    expect([made.accept(), made.drop(), made.drop()]).toEqual([false, true, false]);
    expect(done).toEqual([]);
  });
});
