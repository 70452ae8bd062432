import { describe, expect, it } from "vitest";

import type { Runs } from "../../src/contract";
import * as machine from "../../src/editing/queue";
import type { Canvas, Edit, Operation, Queue, RemoteEdit } from "../../src/editing/queue";
import { paintRuns } from "../../src/editing/runs";
import { VOXELS, put, random, someLabels } from "./shapes";

function canvasOf(data: Uint8Array): Canvas {
  return { data: () => data, apply: (_layer, runs) => put(data, runs) };
}

function edit(id: string, runs: Runs, tried = false): Edit {
  return { kind: "edit", id, layer: 0, tool: "brush", parameters: {}, runs, tried };
}

function remote(revision: number, runs: Runs, person = "ann"): RemoteEdit {
  return { revision, person, tool: "brush", layer: 0, runs };
}

const UNDO: Operation = { kind: "operation", id: "u", name: "undo", layer: 0, structure: 0, parameters: {}, unsure: false };
const START = machine.emptyQueue({ revision: 4, canUndo: false, canRedo: false });

/** Paints on the labels and puts the edit in the queue, as a stroke does. */
function paint(queue: Queue, data: Uint8Array, id: string, offsets: number[], value: number): Queue {
  const runs = paintRuns(offsets, data, value);
  put(data, runs);
  return machine.pushEdit(queue, edit(id, runs));
}

describe("the queue", () => {
  it("sends one at a time, in order, each on the revision that the one before made", () => {
    const data = new Uint8Array(VOXELS);
    let queue = paint(paint(START, data, "a", [1, 2], 1), data, "b", [9], 2);
    const first = machine.takeNext(queue)!;
    expect(first.item.id).toBe("a");
    expect(machine.takeNext(first.queue)).toBeNull();
    queue = machine.stored(first.queue, "a", 5);
    expect(queue.revision).toBe(5);
    expect(machine.takeNext(queue)!.item.id).toBe("b");
  });

  it("does not take an edit that changes nothing", () => {
    expect(machine.pushEdit(START, edit("a", paintRuns([], [], 1)))).toBe(START);
  });

  it("keeps what could not be sent and sends the same again, but not what was refused", () => {
    const queue = machine.takeNext(paint(START, new Uint8Array(VOXELS), "a", [1], 1))!.queue;
    const offline = machine.failed(queue, { kind: "offline", text: "" });
    expect(machine.takeNext(offline)!.item.id).toBe("a");
    expect(machine.takeNext(machine.failed(queue, { kind: "refused", text: "" }))).toBeNull();
    expect(machine.waitingEdits(offline).length).toBe(1);
  });

  it("takes back here what was never sent, and asks the server for the rest", () => {
    const data = new Uint8Array(VOXELS);
    const queue = paint(START, data, "a", [1], 1);
    const taken = machine.takeBack(queue)!;
    expect([taken.edit.id, taken.queue.items.length]).toEqual(["a", 0]);
    expect(machine.canRedo(taken.queue)).toBe(true);
    expect(machine.bringBack(taken.queue, canvasOf(new Uint8Array(VOXELS)))!.queue.items.length).toBe(1);
    expect(machine.takeBack(machine.takeNext(queue)!.queue)).toBeNull();
  });

  it("ends redo with a new edit", () => {
    const data = new Uint8Array(VOXELS);
    const taken = machine.takeBack(paint(START, data, "a", [1], 1))!.queue;
    expect(machine.canRedo(paint(taken, new Uint8Array(VOXELS), "b", [2], 1))).toBe(false);
  });

  it("can undo what waits to be redone, and not what is being undone", () => {
    expect(machine.canUndo(START)).toBe(false);
    expect(machine.canUndo(machine.pushOperation(START, UNDO))).toBe(false);
    expect(machine.canRedo(machine.pushOperation(START, UNDO))).toBe(true);
    expect(machine.canUndo(machine.pushOperation(START, { ...UNDO, name: "smooth" }))).toBe(true);
  });
});

describe("a merge", () => {
  it("puts the other's change underneath and the own one on top", () => {
    const data = new Uint8Array(VOXELS);
    const queue = paint(START, data, "a", [1, 2, 3], 1);
    const theirs = paintRuns([3, 4], new Uint8Array(VOXELS), 2);
    const merged = machine.merge(queue, [remote(5, theirs)], "me", canvasOf(data));
    expect([...data.subarray(0, 6)]).toEqual([0, 1, 1, 1, 2, 0]);
    expect([merged.queue.revision, merged.contested, merged.others.length]).toEqual([5, 1, 1]);
    const [own] = machine.waitingEdits(merged.queue);
    expect([...own!.runs.before]).toEqual([0, 2]);
  });

  it("knows an own edit whose answer was lost, and does not send it twice", () => {
    const data = new Uint8Array(VOXELS);
    const flying = machine.takeNext(paint(START, data, "a", [1, 2], 1))!;
    const offline = machine.failed(flying.queue, { kind: "offline", text: "" });
    const [own] = machine.waitingEdits(offline);
    const merged = machine.merge(offline, [remote(5, own!.runs, "me")], "me", canvasOf(data));
    expect([merged.queue.items.length, merged.others.length, merged.settled]).toEqual([0, 0, ["a"]]);
    expect([...data.subarray(0, 4)]).toEqual([0, 1, 1, 0]);
  });

  it("takes the same change by somebody else for theirs, and drops the own as done", () => {
    const data = new Uint8Array(VOXELS);
    const queue = machine.takeNext(paint(START, data, "a", [1, 2], 1))!.queue;
    const same = paintRuns([1, 2], new Uint8Array(VOXELS), 1);
    const merged = machine.merge(machine.failed(queue, null), [remote(5, same)], "me", canvasOf(data));
    expect([merged.others.length, merged.settled, merged.queue.items.length]).toEqual([1, ["a"], 0]);
  });

  it("knows an own operation whose answer was lost, and does not ask for it twice", () => {
    for (const name of ["undo", "grow"]) {
      const grow = machine.pushOperation(START, { ...UNDO, name });
      const change = { ...remote(5, paintRuns([7], new Uint8Array(VOXELS), 1), "me"), tool: name };
      const merge = (queue: Queue) => machine.merge(queue, [change], "me", canvasOf(new Uint8Array(VOXELS)));
      const flying = machine.takeNext(grow)!.queue;
      const lost = merge(machine.failed(flying, { kind: "offline", text: "" }));
      expect([lost.queue.items, lost.settled, lost.others, lost.dropped]).toEqual([[], ["u"], [], []]);
      expect(lost.queue.canRedo).toBe(name === "undo");
      // One that the server refused as out of date is not that change: it was made in another window.
      expect(merge(machine.failed(flying, null)).settled).toEqual([]);
    }
  });

  it("leaves off an undo that would take back somebody else's change, but not one of an own waiting edit", () => {
    const data = new Uint8Array(VOXELS);
    const theirs = [remote(5, paintRuns([7], new Uint8Array(VOXELS), 2))];
    const undo = machine.merge(machine.pushOperation(START, UNDO), theirs, "me", canvasOf(data));
    expect([undo.dropped.length, undo.queue.items.length]).toEqual([1, 0]);
    const grow = machine.pushOperation(START, { ...UNDO, name: "grow" });
    expect(machine.merge(grow, theirs, "me", canvasOf(new Uint8Array(VOXELS))).dropped).toEqual([]);
    const mine = new Uint8Array(VOXELS);
    const drawn = machine.pushOperation(paint(START, mine, "a", [1], 1), UNDO);
    expect(machine.merge(drawn, theirs, "me", canvasOf(mine)).dropped).toEqual([]);
  });

  it("refuses changes with a gap before them", () => {
    const runs = paintRuns([1], new Uint8Array(VOXELS), 1);
    const merge = () => machine.merge(START, [remote(6, runs)], "me", canvasOf(new Uint8Array(VOXELS)));
    expect(merge).toThrow(/revision 5, got 6/);
  });

  it("of any changes gives the server's labels with the own voxels set on top, and edits that fit them", () => {
    for (let seed = 0; seed < 40; seed++) {
      const draw = random(seed);
      const some = () => [...Array(VOXELS).keys()].filter(() => draw() < 0.3);
      const server = someLabels(seed);
      const data = server.slice();
      let queue = START;
      const wanted = new Map<number, number>();
      for (const id of ["a", "b", "c"]) {
        const value = Math.floor(draw() * 3);
        const offsets = some().filter((offset) => data[offset] !== value);
        queue = paint(queue, data, id, offsets, value);
        offsets.forEach((offset) => wanted.set(offset, value));
      }
      const theirs = [5, 6].map((revision) => {
        const runs = paintRuns(some(), server, revision % 3);
        put(server, runs);
        return remote(revision, runs);
      });
      const merged = machine.merge(queue, theirs, "me", canvasOf(data));
      const expected = server.map((value, offset) => wanted.get(offset) ?? value);
      expect(data).toEqual(expected);
      for (const own of machine.waitingEdits(merged.queue)) put(server, own.runs);
      expect(server).toEqual(expected);
    }
  });
});

describe("strokes kept from an earlier page", () => {
  it("are put on top of the head, unless the server has them", () => {
    const base = new Uint8Array(VOXELS);
    const [a, b] = [paintRuns([1, 2], base, 1), paintRuns([7], base, 2)];
    const head = base.slice();
    const theirs = paintRuns([2, 3], head.map((value, n) => (n === 1 || n === 2 ? 1 : value)), 2);
    put(head, a);
    put(head, theirs);
    const queue = { ...START, revision: 6 };
    const history = { since: [remote(5, a, "me"), remote(6, theirs)], me: "me" };
    const taken = machine.takeUp(queue, [edit("a", a, true), edit("b", b, true)], history, canvasOf(head));
    expect(taken.settled).toEqual(["a"]);
    expect(machine.waitingEdits(taken.queue).map(({ id }) => id)).toEqual(["b"]);
    expect([...head.subarray(0, 8)]).toEqual([0, 1, 2, 2, 0, 0, 0, 2]);
    expect(taken.others.map(({ revision }) => revision)).toEqual([6]);
  });
});
