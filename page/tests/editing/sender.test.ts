import "fake-indexeddb/auto";
import { describe, expect, it } from "vitest";

import { openJournal, type Journal } from "../../src/editing/journal";
import { emptyQueue, waitingEdits, type Edit, type Merged, type Queue, type RemoteEdit } from "../../src/editing/queue";
import { inverse, paintRuns } from "../../src/editing/runs";
import { Sender, type Failure, type Server } from "../../src/editing/sender";
import { VOXELS, put, random } from "./shapes";

class Stale extends Error {}
class Away extends Error {}

/** A server that keeps edits as the real one does: on its head only, and only where `before` fits. */
class FakeServer {
  labels = new Uint8Array(VOXELS);
  edits: RemoteEdit[] = [];
  away = false;
  /** Store the next edit, but let its answer be lost. */
  losesAnswer = false;

  get revision(): number {
    return this.edits.length;
  }

  add(person: string, tool: string, runs: Edit["runs"], base: number): number {
    if (base !== this.revision) throw new Stale();
    put(this.labels, runs);
    this.edits.push({ revision: base + 1, person, tool, layer: 0, runs });
    return this.revision;
  }

  private lose(): void {
    if (!this.losesAnswer) return;
    this.losesAnswer = false;
    throw new Away();
  }

  as(person: string): Server {
    const reach = async () => {
      await new Promise((resolve) => setTimeout(resolve, 0));
      if (this.away) throw new Away();
    };
    return {
      store: async (edit, base) => {
        await reach();
        const revision = this.add(person, edit.tool, edit.runs, base);
        this.lose();
        return revision;
      },
      operate: async (operation, base) => {
        await reach();
        if (base !== this.revision) throw new Stale();
        if (base === 0) throw new RangeError("There is nothing to undo.");
        const runs = inverse(this.edits.at(-1)!.runs);
        const revision = this.add(person, operation.name, runs, base);
        this.lose();
        return { revision, layer: 0, runs, canUndo: false, canRedo: true, note: null };
      },
      editsAfter: async (revision) => {
        await reach();
        return this.edits.slice(revision);
      },
    };
  }
}

function failureOf(problem: unknown): Failure {
  if (problem instanceof Stale) return { kind: "stale" };
  if (problem instanceof Away) return { kind: "offline", text: "away" };
  if (problem instanceof RangeError) return { kind: "impossible", text: problem.message };
  return { kind: "refused", text: String(problem) };
}

/** One person's page: their labels, and what waits. */
function page(server: FakeServer, me: string, journal: Journal) {
  const labels = server.labels.slice();
  const told = { merged: [] as Merged[], notes: [] as string[], queues: [] as Queue[], cuts: 0 };
  const head = { revision: server.revision, canUndo: server.revision > 0, canRedo: false };
  const sender = new Sender(emptyQueue(head), {
    me,
    server: server.as(me),
    journal,
    canvas: { data: () => labels, apply: (_layer, runs) => put(labels, runs) },
    failureOf,
    ready: Promise.resolve(),
    beforeChange: () => told.cuts++,
    onQueue: (queue) => told.queues.push(queue),
    onMerged: (merged) => told.merged.push(merged),
    onNote: (text) => told.notes.push(text),
    onLeft: (strokes) => told.notes.push(`${strokes} left`),
    wait: () => 5,
  });
  const stroke = (offsets: number[], value: number) => {
    const runs = paintRuns(offsets, labels, value);
    put(labels, runs);
    sender.push({ layer: 0, tool: "brush", parameters: {}, runs });
  };
  return { sender, labels, stroke, told };
}

type Page = ReturnType<typeof page>;

/** Opened cases of one browser, which a test can end as a crash does. */
function browser() {
  const there = new Set<string>();
  const enter = async (page: string) => {
    there.add(page);
    return () => void there.delete(page);
  };
  return { enter, alive: async () => there };
}

let cases = 0;
const freshJournal = (person = "me") => openJournal(person, `case ${cases++}`);

describe("sending", () => {
  it("stores strokes in order and empties the journal", async () => {
    const [server, journal] = [new FakeServer(), await freshJournal()];
    const { sender, stroke, labels } = page(server, "me", journal);
    stroke([1, 2], 1);
    stroke([2, 3], 2);
    expect((await journal.saved()).length).toBe(2);
    await sender.settled();
    expect(server.labels).toEqual(labels);
    await expect.poll(async () => (await journal.saved()).length).toBe(0);
  });

  it("loses nothing while the server is away, and stores nothing twice when an answer was lost", async () => {
    const server = new FakeServer();
    const { sender, stroke, told } = page(server, "me", await freshJournal());
    server.away = true;
    stroke([1, 2], 1);
    stroke([9], 2);
    await expect.poll(() => told.queues.at(-1)!.trouble?.kind).toBe("offline");
    server.losesAnswer = true;
    server.away = false;
    await sender.settled();
    expect(server.edits.length).toBe(2);
    expect([server.labels[1], server.labels[2], server.labels[9]]).toEqual([1, 1, 2]);
  });

  it("after a crash takes up what the journal kept, on top of what others did meanwhile", async () => {
    const [server, here] = [new FakeServer(), browser()];
    const journal = await openJournal("me", "crash", here);
    server.add("ann", "brush", paintRuns([20], server.labels, 1), 0);
    const crashed = page(server, "me", journal);
    server.away = true;
    crashed.stroke([1, 2], 1);
    crashed.stroke([30], 2);
    await expect.poll(async () => (await journal.saved()).length).toBe(2);
    crashed.sender.close();
    journal.close();
    server.away = false;
    server.add("ann", "brush", paintRuns([2, 3], server.labels, 2), 1);
    const again = page(server, "me", await openJournal("me", "crash", here));
    await again.sender.takeUpSaved();
    await again.sender.settled();
    expect([...server.labels.subarray(1, 4), server.labels[30]]).toEqual([1, 1, 2, 2]);
    expect(again.labels).toEqual(server.labels);
    expect(again.told.merged[0]!.others.map(({ person }) => person)).toEqual(["ann"]);
  });

  it("leaves alone what another window has waiting, until that is gone", async () => {
    const [server, here] = [new FakeServer(), browser()];
    const journals = [await openJournal("me", "two", here), await openJournal("me", "two", here)] as const;
    const [first, second] = journals.map((journal) => page(server, "me", journal)) as [Page, Page];
    server.away = true;
    first.stroke([1], 1);
    await expect.poll(async () => (await journals[0].saved()).length).toBe(1);
    await second.sender.takeUpSaved();
    expect([second.sender.state.items, second.told.notes]).toEqual([[], []]);
    first.sender.close();
    journals[0].close();
    await second.sender.takeUpSaved();
    await second.sender.takeUpSaved();
    server.away = false;
    await second.sender.settled();
    expect([server.edits.length, server.labels[1], second.told.notes]).toEqual([1, 1, ["1 left"]]);
  });

  it("does not undo twice when the answer to an undo was lost, and hands a stroke in before it", async () => {
    const server = new FakeServer();
    const { sender, stroke, labels, told } = page(server, "me", await freshJournal());
    stroke([1], 1);
    stroke([5], 1);
    await sender.settled();
    const cuts = told.cuts;
    server.losesAnswer = true;
    sender.undo();
    expect(told.cuts).toBe(cuts + 1);
    await sender.settled();
    expect([server.edits.length, server.labels[1], server.labels[5]]).toEqual([3, 1, 0]);
    expect(labels).toEqual(server.labels);
    expect(sender.state.canRedo).toBe(true);
  });

  it("undoes at once what was not sent, through the server what was", async () => {
    const server = new FakeServer();
    const { sender, stroke, labels } = page(server, "me", await freshJournal());
    stroke([1], 1);
    await sender.settled();
    server.away = true;
    stroke([5], 1);
    stroke([6], 1);
    sender.undo();
    expect(labels[6]).toBe(0);
    server.away = false;
    sender.undo();
    await sender.settled();
    expect([labels[1], labels[5]]).toEqual([1, 0]);
    expect(labels).toEqual(server.labels);
    sender.redo();
    await sender.settled();
    expect(labels[6]).toBe(1);
    expect(labels).toEqual(server.labels);
  });

  it("tells what cannot be undone and goes on", async () => {
    const server = new FakeServer();
    const { sender, stroke, told } = page(server, "me", await freshJournal());
    sender.operate({ name: "undo", layer: 0, structure: 0, parameters: {} });
    stroke([4], 1);
    await sender.settled();
    expect(told.notes).toEqual(["Undo: There is nothing to undo."]);
    expect(server.labels[4]).toBe(1);
  });

  it("stops at a refusal, and gives up what waits only when told to", async () => {
    const [server, journal] = [new FakeServer(), await freshJournal()];
    const { sender, stroke, labels, told } = page(server, "me", journal);
    server.labels[4] = 9;
    stroke([4], 1);
    await expect.poll(() => told.queues.at(-1)!.trouble?.kind).toBe("refused");
    expect(waitingEdits(sender.state).length).toBe(1);
    sender.discard();
    expect(labels[4]).toBe(0);
    await expect.poll(async () => (await journal.saved()).length).toBe(0);
  });

  it("of two people at once ends with the same labels everywhere, and every stroke stored", async () => {
    for (let seed = 0; seed < 8; seed++) {
      const [server, draw] = [new FakeServer(), random(seed)];
      const pages = [page(server, "me", await freshJournal()), page(server, "ann", await freshJournal("ann"))];
      for (let round = 0; round < 12; round++) {
        const one = pages[Number(draw() < 0.5)]!;
        server.away = draw() < 0.2;
        server.losesAnswer = draw() < 0.2;
        const offsets = [...Array(VOXELS).keys()].filter(() => draw() < 0.1);
        if (draw() < 0.8) one.stroke(offsets, 1 + Math.floor(draw() * 2));
        else one.sender.undo();
        await new Promise((resolve) => setTimeout(resolve, draw() * 6));
      }
      server.away = false;
      for (const one of pages) await one.sender.settled();
      for (const one of pages) {
        await one.sender.catchUp(server.revision);
        expect(one.labels).toEqual(server.labels);
        expect(one.sender.state.trouble).toBeNull();
      }
    }
  });
});

describe("the journal", () => {
  it("keeps each person's strokes of each case apart, oldest first, and the newest words of an edit", async () => {
    const [mine, hers] = [await openJournal("me", "x"), await openJournal("ann", "x")];
    const runs = paintRuns([1, 2, 9], new Uint8Array(VOXELS), 3);
    const edit: Edit = { kind: "edit", id: "z", layer: 3, tool: "lasso", parameters: { erase: true }, runs, tried: false };
    await mine.put(edit, 7);
    await mine.put({ ...edit, id: "a" }, 8);
    await mine.put({ ...edit, tried: true }, 7);
    expect(await mine.saved()).toEqual([
      { base: 7, edit: { ...edit, tried: true } },
      { base: 8, edit: { ...edit, id: "a" } },
    ]);
    expect(await hers.saved()).toEqual([]);
    await mine.remove(["z", "a"]);
    expect(await mine.saved()).toEqual([]);
  });
});
