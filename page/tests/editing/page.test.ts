// @vitest-environment happy-dom
import { readFileSync } from "node:fs";
import { describe, expect, it, vi } from "vitest";

import { ApiError, type DecisionRecord } from "../../src/api";
import type { CaseDesk } from "../../src/casepage/desk";
import { BINDINGS, press, type KeyContext } from "../../src/casepage/keyboard";
import { failureOf, mergedText, saveText } from "../../src/casepage/saving";
import { Store } from "../../src/casepage/store";
import { decisionsOf } from "../../src/casepage/Structures";
import { StructureVolumes, countsAfter, countVoxels, voxelMl, type Counts } from "../../src/casepage/volumes";
import { emptyQueue, type Edit, type Queue, type RemoteEdit } from "../../src/editing/queue";
import { RunBuilder, paintRuns } from "../../src/editing/runs";
import { someLabels } from "./shapes";

const NOTHING = paintRuns([], [], 1);
const EDIT: Edit = { kind: "edit", id: "a", layer: 0, tool: "brush", parameters: {}, runs: NOTHING, tried: false };
const QUEUE: Queue = emptyQueue({ revision: 3, canUndo: true, canRedo: false });

function desk(change: Partial<CaseDesk> = {}): KeyContext {
  const proposals = { accept: () => false, open: false };
  const page = { proposals, enter: vi.fn(), act: vi.fn(), select: vi.fn(), undo: vi.fn(), redo: vi.fn(), passToPicture: vi.fn(() => true) };
  return { desk: { ...page, ...change } as unknown as CaseDesk, open: vi.fn(), next: vi.fn(), finding: vi.fn() };
}

function key(name: string, change: KeyboardEventInit = {}, on: HTMLElement = document.body): KeyboardEvent {
  const event = new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true, ...change });
  document.body.append(on === document.body ? "" : on);
  on.dispatchEvent(event);
  return event;
}

describe("keys", () => {
  it("mean one thing each", () => {
    const events = "abcdefghijklmnopqrstuvwxyz?[]".split("").flatMap((name) => [
      key(name),
      key(name.toUpperCase(), { shiftKey: true }),
      key(name, { ctrlKey: true }),
    ]);
    events.push(...["Enter", "Escape", "Backspace"].map((name) => key(name)));
    events.push(...[1, 9].map((n) => key(String(n), { code: `Digit${n}` })));
    for (const event of events) {
      const does = BINDINGS.filter(({ matches }) => matches(event)).map(({ does }) => does);
      expect(does.length, `${event.key}: ${does.join("; ")}`).toBeLessThanOrEqual(1);
    }
  });

  it("accept with Enter, or act, and act with d whatever is proposed", () => {
    const here = desk();
    press(key("Enter"), here);
    press(key("d"), here);
    press(key("D", { shiftKey: true }), here);
    expect(here.desk.enter).toHaveBeenCalledTimes(1);
    expect(vi.mocked(here.desk.act).mock.calls).toEqual([[false], [true]]);
  });

  it("undo and redo with and without Ctrl, and leave the browser's own alone", () => {
    const here = desk();
    expect([key("z"), key("z", { ctrlKey: true })].map((event) => press(event, here))).toEqual([true, true]);
    expect(here.desk.undo).toHaveBeenCalledTimes(2);
    expect(press(key("Z", { ctrlKey: true, shiftKey: true }), here)).toBe(true);
    expect(here.desk.redo).toHaveBeenCalledTimes(1);
    expect(["b", "a", "p"].map((name) => press(key(name, { ctrlKey: true }), here))).toEqual([false, false, false]);
  });

  it("are left to fields; a button keeps Enter and a slider its arrows", () => {
    const on = (tag: string, type = "") => {
      const made = document.createElement(tag);
      if (type) made.setAttribute("type", type);
      return made;
    };
    const here = desk();
    expect(press(key("b", {}, on("textarea")), here)).toBe(false);
    expect(press(key("Enter", {}, on("button")), here)).toBe(false);
    expect(press(key("b", {}, on("button")), here)).toBe(true);
    expect(press(key("ArrowLeft", {}, on("input", "range")), here)).toBe(false);
    expect(press(key("b", {}, on("input", "range")), here)).toBe(true);
  });

  it("of a picture are handed to it", () => {
    const here = desk();
    expect(press(key("PageUp"), here)).toBe(true);
    expect(here.desk.passToPicture).toHaveBeenCalledTimes(1);
  });

  it("stand in the user's guide as they are bound", () => {
    const guide = readFileSync("../docs/correcting-keys.md", "utf8");
    for (const { keys, does } of BINDINGS) expect(guide).toContain(`| \`${keys}\` | ${does} |`);
  });
});

describe("what is told of saving", () => {
  it("is short and true", () => {
    const waiting = { ...QUEUE, items: [EDIT, { ...EDIT, id: "b" }] };
    expect(saveText(QUEUE)).toBe("All saved");
    expect(saveText(waiting)).toBe("Saving…");
    expect(saveText({ ...waiting, trouble: { kind: "offline", text: "" } })).toBe("Offline, 2 strokes waiting");
    expect(saveText({ ...waiting, items: [EDIT], trouble: { kind: "refused", text: "" } })).toBe(
      "Not saved, 1 stroke waiting",
    );
  });

  it("names who changed what meanwhile, and where strokes lie over theirs", () => {
    const edit = (person: string, tool: string): RemoteEdit => ({ revision: 4, person, tool, layer: 0, runs: NOTHING });
    const merged = { queue: QUEUE, others: [edit("ann", "fill_between")], settled: [], rebased: [EDIT], dropped: [], contested: 7 };
    expect(mergedText(merged, "me")).toBe(
      "ann changed the labels meanwhile (fill between). Your 1 waiting stroke went on top. " +
        "They now cover 7 voxels of theirs: look there once more.",
    );
    expect(mergedText({ ...merged, others: [] }, "me")).toBeNull();
    expect(mergedText({ ...merged, others: [edit("me", "undo")] }, "me")).toMatch(/^You, in another window,/);
  });

  it("follows from what the server answered", () => {
    const kinds = [
      new ApiError(409, "", null, 8),
      new ApiError(401, ""),
      new ApiError(0, ""),
      new ApiError(503, ""),
      new ApiError(400, ""),
      new Error("odd"),
    ].map((problem) => failureOf(problem).kind);
    expect(kinds).toEqual(["stale", "signed-out", "offline", "offline", "impossible", "refused"]);
  });
});

describe("volumes", () => {
  it("follow changes as if everything were counted again", async () => {
    const [before, after] = [someLabels(1), someLabels(2)];
    const built = new RunBuilder();
    before.forEach((value, offset) => built.add(offset, value, after[offset]!));
    expect(countsAfter(await countVoxels(before), built.finish())).toEqual(await countVoxels(after));
  });

  it("are counted again where a change came in while they were counted, and kept up from then on", async () => {
    const [whole, own] = [Uint8Array.of(0, 2, 2, 1), Uint8Array.of(1, 1, 0, 1)];
    const told: Counts[] = [];
    const layers = new Map([[0, { data: whole }], [5, { data: own }]]);
    const volumes = new StructureVolumes(layers, (counts) => told.push(counts));
    const change = paintRuns([0, 1], whole, 1);
    const counting = volumes.count();
    whole.fill(1, 0, 2);
    volumes.changed(0, change);
    await counting;
    expect(told).toEqual([]);
    await vi.waitFor(() => expect(told).toEqual([new Map([[1, 3], [2, 1], [5, 3]])]), 5000);
    volumes.changed(5, paintRuns([2], own, 1));
    expect(told.at(-1)!.get(5)).toBe(4);
  });

  it("of a voxel are the affine's, oblique or mirrored", () => {
    const affine = [[-0.6, -1.6, 0, 9], [0.8, -1.2, 0, 9], [0, 0, 3, 9], [0, 0, 0, 1]];
    expect(voxelMl({ shape: [1, 1, 1], affine, spacingMm: [1, 2, 3] })).toBeCloseTo(0.006, 12);
  });
});

describe("decisions about structures", () => {
  it("are the newest ones, of what is seen now", () => {
    const decision = (structure: number | null, revision: number, made: string, verdict: DecisionRecord["verdict"]) => ({
      person: "me", signature: "Me", seen: "", reason: "", second: false, structure, revision, made, verdict,
    });
    const all = [
      decision(1, 3, "2026-01-02T00:00:00Z", "approve"),
      decision(1, 3, "2026-01-01T00:00:00Z", "reject"),
      decision(2, 2, "2026-01-03T00:00:00Z", "approve"),
      decision(null, 3, "2026-01-04T00:00:00Z", "approve"),
    ];
    expect([...decisionsOf(all, 3)].map(([value, { verdict }]) => [value, verdict])).toEqual([[1, "approve"]]);
  });
});

describe("a store", () => {
  it("tells its listeners until they go", () => {
    const store = new Store({ a: 1, b: 2 });
    const listener = vi.fn();
    const leave = store.subscribe(listener);
    store.set({ a: 5 });
    leave();
    store.set({ b: 6 });
    expect([store.get(), listener.mock.calls.length]).toEqual([{ a: 5, b: 6 }, 1]);
  });
});
