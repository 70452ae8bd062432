/** Sends what waits, in order, one at a time; merges what others stored; tries again when the server is away. */

import type { Runs } from "../contract";
import type { Journal, Saved } from "./journal";
import * as machine from "./queue";
import type { Canvas, Edit, Item, Merged, Operation, Queue, RemoteEdit, Trouble } from "./queue";
import { inverse } from "./runs";

/** What the server did with an operation. `note`: what to tell the person. */
export interface OperationResult {
  revision: number;
  layer: number;
  runs: Runs;
  canUndo: boolean;
  canRedo: boolean;
  note: string | null;
}

/** The server as the queue knows it. Failures are thrown; `failureOf` tells what they mean. */
export interface Server {
  store(edit: Edit, baseRevision: number): Promise<number>;
  operate(operation: Operation, baseRevision: number): Promise<OperationResult>;
  editsAfter(revision: number): Promise<RemoteEdit[]>;
}

/** `stale`: somebody was faster. `impossible`: an operation that cannot be done, such as an undo of nothing. */
export type Failure = { kind: "stale" } | { kind: "impossible"; text: string } | Trouble;

export interface SenderOptions {
  me: string;
  server: Server;
  journal: Journal;
  canvas: Canvas;
  failureOf(problem: unknown): Failure;
  /** Resolves when all labels have arrived: nothing is merged before. */
  ready: Promise<void>;
  /** Called just before the labels change by anything but a stroke, so that one under way is handed in first. */
  beforeChange(): void;
  onQueue(queue: Queue): void;
  onMerged(merged: Merged): void;
  onNote(text: string): void;
  /** Strokes that an earlier page left unsaved are being put back. */
  onLeft(strokes: number): void;
  /** Milliseconds before the n-th attempt after a failure. */
  wait?(attempt: number): number;
}

export class Sender {
  private attempts = 0;
  private running: Promise<void> | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private closed = false;
  private idle: (() => void)[] = [];
  /** Edits of pages that are gone, which this one has not put on its labels yet. */
  private readonly left: Saved[] = [];

  constructor(
    private queue: Queue,
    private readonly options: SenderOptions,
  ) {}

  get state(): Queue {
    return this.queue;
  }

  /** Adds an edit that the canvas shows already. */
  push(edit: Omit<Edit, "kind" | "id" | "tried">): void {
    const whole: Edit = { ...edit, kind: "edit", id: crypto.randomUUID(), tried: false };
    const next = machine.pushEdit(this.queue, whole);
    if (next === this.queue) return;
    this.become(next);
    this.keep(whole);
    this.wake();
  }

  operate(operation: Omit<Operation, "kind" | "id" | "unsure">): void {
    const whole: Operation = { ...operation, kind: "operation", id: crypto.randomUUID(), unsure: false };
    this.become(machine.pushOperation(this.queue, whole));
    this.wake();
  }

  undo(): void {
    this.options.beforeChange();
    if (!machine.canUndo(this.queue)) return;
    const taken = machine.takeBack(this.queue);
    if (!taken) return this.operate({ name: "undo", layer: 0, structure: 0, parameters: {} });
    this.options.canvas.apply(taken.edit.layer, inverse(taken.edit.runs));
    this.become(taken.queue);
    this.forget([taken.edit.id]);
    if (taken.queue.items.length === 0) this.settle();
  }

  redo(): void {
    this.options.beforeChange();
    if (!machine.canRedo(this.queue)) return;
    const back = machine.bringBack(this.queue, this.options.canvas);
    if (!back) return this.operate({ name: "redo", layer: 0, structure: 0, parameters: {} });
    this.options.canvas.apply(back.edit.layer, back.edit.runs);
    this.become(back.queue);
    this.keep(back.edit);
    this.wake();
  }

  /** Takes up edits that a page which is gone left in the journal. What fails here is tried again by the next call. */
  async takeUpSaved(): Promise<void> {
    const found = await this.options.journal.takeOver();
    if (found.length > 0) this.options.onLeft(found.length);
    this.left.push(...found);
    if (this.left.length === 0) return;
    await this.options.ready;
    const first = Math.min(...this.left.map(({ base }) => base), this.queue.revision);
    const since = first < this.queue.revision ? await this.options.server.editsAfter(first) : [];
    const edits = this.left.splice(0).map(({ edit }) => ({ ...edit, tried: true }));
    if (edits.length === 0 || this.closed) return;
    const known = since.filter((edit) => edit.revision <= this.queue.revision);
    this.options.beforeChange();
    this.finish(machine.takeUp(this.queue, edits, { since: known, me: this.options.me }, this.options.canvas));
    this.wake();
  }

  /** Fetches what others stored, when `head` (as the server says elsewhere) is newer. */
  async catchUp(head: number): Promise<void> {
    if (head <= this.queue.revision || this.running || this.closed) return;
    this.running = this.guarded(() => this.mergeNews()).then(() => {
      this.running = null;
    });
    await this.running;
    this.wake();
  }

  /** Tries again now, after a failure. */
  retry(): void {
    this.attempts = 0;
    if (this.queue.trouble) this.become({ ...this.queue, trouble: null });
    this.wake();
  }

  /** Gives up all that waits: takes it off the labels and out of the journal. */
  discard(): void {
    this.options.beforeChange();
    const edits = machine.waitingEdits(this.queue);
    for (const edit of edits.toReversed()) this.options.canvas.apply(edit.layer, inverse(edit.runs));
    this.become({ ...this.queue, items: [], undone: [], flying: null, trouble: null });
    this.forget(edits.map((edit) => edit.id));
    this.settle();
  }

  /** Resolves when nothing waits any more. */
  settled(): Promise<void> {
    if (this.queue.items.length === 0 && !this.running) return Promise.resolve();
    return new Promise((resolve) => this.idle.push(resolve));
  }

  close(): void {
    this.closed = true;
    if (this.timer) clearTimeout(this.timer);
  }

  private become(queue: Queue): void {
    this.queue = queue;
    this.options.onQueue(queue);
  }

  private keep(edit: Edit): void {
    this.options.journal.put(edit, this.queue.revision).catch(() => {
      this.options.onNote("This browser could not keep a copy of the stroke; it is safe once “all saved” shows.");
    });
  }

  private forget(ids: readonly string[]): void {
    // A copy left behind is found stored, or without effect, when the case is opened next.
    this.options.journal.remove(ids).catch(() => undefined);
  }

  private settle(): void {
    if (this.queue.items.length > 0 || this.running) return;
    for (const done of this.idle.splice(0)) done();
  }

  private wake(): void {
    if (this.running || this.closed) return;
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    this.running = this.drain().finally(() => {
      this.running = null;
      this.settle();
    });
  }

  private async drain(): Promise<void> {
    while (!this.closed) {
      const step = machine.takeNext(this.queue);
      if (!step) return;
      this.become(step.queue);
      if (!(await this.guarded(() => this.carryOut(step.item), step.item))) return;
    }
  }

  private async carryOut(item: Item): Promise<void> {
    const { server, journal } = this.options;
    const base = this.queue.revision;
    if (item.kind === "edit") {
      await journal.put(item, base).catch(() => undefined);
      const revision = await server.store(item, base);
      this.become(machine.stored(this.queue, item.id, revision));
      this.forget([item.id]);
    } else {
      const result = await server.operate(item, base);
      await this.options.ready;
      this.options.beforeChange();
      const change: RemoteEdit = { ...result, person: this.options.me, tool: item.name };
      const merged = machine.carriedOut(this.queue, item.id, change, this.options.canvas);
      const { canUndo, canRedo } = result;
      this.finish({ ...merged, queue: { ...merged.queue, canUndo, canRedo } });
      if (result.note) this.options.onNote(`${titled(item.name)}: ${result.note}`);
    }
    this.attempts = 0;
  }

  /** Runs one step. False: stop sending for now. */
  private async guarded(step: () => Promise<void>, item?: Item): Promise<boolean> {
    try {
      await step();
      return true;
    } catch (problem) {
      const failure = this.options.failureOf(problem);
      if (failure.kind === "impossible" && item?.kind === "operation") {
        this.become(machine.without(this.queue, item.id));
        this.options.onNote(`${titled(item.name)}: ${failure.text}`);
        return true;
      }
      if (failure.kind === "stale") {
        this.become(machine.failed(this.queue, null));
        return this.guarded(() => this.mergeNews({ expected: true }));
      }
      this.stop(failure.kind === "impossible" ? { kind: "refused", text: failure.text } : failure);
      return false;
    }
  }

  private stop(trouble: Trouble): void {
    if (this.queue.items.length === 0 && trouble.kind === "offline") return;
    this.become(machine.failed(this.queue, trouble));
    if (trouble.kind !== "offline" || this.closed) return;
    const wait = this.options.wait ?? ((attempt) => Math.min(1000 * 2 ** attempt, 15_000));
    this.timer = setTimeout(() => this.wake(), wait(this.attempts++));
  }

  private async mergeNews({ expected = false } = {}): Promise<void> {
    const remote = await this.options.server.editsAfter(this.queue.revision);
    await this.options.ready;
    if (expected && remote.length === 0) {
      throw new Error("The labels here are not those of the server. Open the case again: your strokes are kept.");
    }
    this.options.beforeChange();
    this.finish(machine.merge(this.queue, remote, this.options.me, this.options.canvas));
  }

  private finish(merged: Merged): void {
    this.become(merged.queue);
    this.forget(merged.settled);
    for (const edit of merged.rebased) this.keep(edit);
    this.options.onMerged(merged);
    for (const { name } of merged.dropped) {
      this.options.onNote(`${titled(name)}: left off, because the labels were changed meanwhile. Look, and ask again.`);
    }
    this.settle();
  }
}

/** "fill_between" as "Fill between". */
function titled(name: string): string {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
