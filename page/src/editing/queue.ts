/**
 * What waits to be stored: a pure state machine.
 *
 * The labels in the browser are always the server's labels at `revision` with the waiting edits put on top, in order.
 * One thing at a time is on its way. When somebody else was faster, their changes go underneath and the waiting edits
 * are put on top again as sets of voxels with a value.
 */

import type { Runs } from "../contract";
import { inverse, isEmpty, repaint, sameRuns, sharedVoxels } from "./runs";

/** A change made here that the server may not have yet. */
export interface Edit {
  kind: "edit";
  id: string;
  layer: number;
  tool: string;
  parameters: Record<string, unknown>;
  runs: Runs;
  /** It has been sent at least once, so the server may have it. */
  tried: boolean;
}

/** Something that the server works out: undo, redo, or a tool on the whole structure. */
export interface Operation {
  kind: "operation";
  id: string;
  name: string;
  layer: number;
  structure: number;
  parameters: Record<string, unknown>;
  /** It was sent and no answer came: the server may have done it. */
  unsure: boolean;
}

export type Item = Edit | Operation;

/** A change as the server tells it: from `revision - 1` to `revision`. */
export interface RemoteEdit {
  revision: number;
  person: string;
  tool: string;
  layer: number;
  runs: Runs;
}

/** Why nothing is being sent. `offline` is tried again by itself. */
export interface Trouble {
  kind: "offline" | "signed-out" | "refused";
  text: string;
}

export interface Queue {
  revision: number;
  items: readonly Item[];
  flying: string | null;
  /** Edits taken back before they were ever sent; a new edit ends them. */
  undone: readonly Edit[];
  trouble: Trouble | null;
  /** What the server says of its head. */
  canUndo: boolean;
  canRedo: boolean;
}

/** The labels of all layers as they are in the browser. */
export interface Canvas {
  data(layer: number): ArrayLike<number>;
  apply(layer: number, runs: Runs): void;
}

export function emptyQueue(head: { revision: number; canUndo: boolean; canRedo: boolean }): Queue {
  return { ...head, items: [], flying: null, undone: [], trouble: null };
}

/** Edits that wait, in order. */
export function waitingEdits(queue: Queue): Edit[] {
  return queue.items.filter((item) => item.kind === "edit");
}

/** Adds an edit that the canvas shows already. */
export function pushEdit(queue: Queue, edit: Edit): Queue {
  return isEmpty(edit.runs) ? queue : { ...queue, items: [...queue.items, edit], undone: [] };
}

export function pushOperation(queue: Queue, operation: Operation): Queue {
  return { ...queue, items: [...queue.items, operation], undone: isReversal(operation) ? queue.undone : [] };
}

/** The last edit if it was never sent: it can be taken back here. */
function unsent(queue: Queue): Edit | null {
  const last = queue.items.at(-1);
  return last?.kind === "edit" && !last.tried ? last : null;
}

/** Takes back the last edit where the server cannot know it; null where the server must be asked to undo. */
export function takeBack(queue: Queue): { queue: Queue; edit: Edit } | null {
  const edit = unsent(queue);
  if (!edit) return null;
  return { edit, queue: { ...queue, items: queue.items.slice(0, -1), undone: [...queue.undone, edit] } };
}

/**
 * Brings back what was last taken back here, as a change of what the canvas shows now; null where the server must be
 * asked to redo.
 */
export function bringBack(queue: Queue, canvas: Canvas): { queue: Queue; edit: Edit } | null {
  const last = queue.undone.at(-1);
  if (!last) return null;
  const edit = { ...last, runs: repaint(last.runs, canvas.data(last.layer)) };
  return { edit, queue: { ...queue, items: [...queue.items, edit], undone: queue.undone.slice(0, -1) } };
}

export function canUndo(queue: Queue): boolean {
  return queue.items.some((item) => item.kind === "edit" || item.name !== "undo") || queue.canUndo;
}

export function canRedo(queue: Queue): boolean {
  const last = queue.items.at(-1);
  if (queue.undone.length > 0 || (last?.kind === "operation" && last.name === "undo")) return true;
  return queue.items.length === 0 && queue.canRedo;
}

/** The next thing to send, marked as on its way; null if there is none, or one is on its way, or it was refused. */
export function takeNext(queue: Queue): { queue: Queue; item: Item } | null {
  const first = queue.items[0];
  if (!first || queue.flying !== null || (queue.trouble && queue.trouble.kind !== "offline")) return null;
  const item: Item = first.kind === "edit" ? { ...first, tried: true } : first;
  return { item, queue: { ...queue, items: [item, ...queue.items.slice(1)], flying: item.id } };
}

/** The server stored the edit that was on its way. */
export function stored(queue: Queue, id: string, revision: number): Queue {
  return { ...without(queue, id), revision, trouble: null, canUndo: true, canRedo: false };
}

/** What was on its way did not arrive, or was refused; it waits on. */
export function failed(queue: Queue, trouble: Trouble | null): Queue {
  const unanswered = (item: Item) => item.kind === "operation" && item.id === queue.flying && trouble?.kind === "offline";
  const items = queue.items.map((item) => (unanswered(item) ? { ...item, unsure: true } : item));
  return { ...queue, items, flying: null, trouble };
}

export function without(queue: Queue, id: string): Queue {
  const flying = queue.flying === id ? null : queue.flying;
  return { ...queue, flying, items: queue.items.filter((item) => item.id !== id) };
}

/** What a merge did, to be told to the person. */
export interface Merged {
  queue: Queue;
  /** Changes by others (or from elsewhere) that now lie underneath. */
  others: readonly RemoteEdit[];
  /** Ids of own items that turned out to be stored, or of edits that change nothing any more. */
  settled: readonly string[];
  /** Own edits that were put on top again. */
  rebased: readonly Edit[];
  /** Undos and redos that were left off: what they meant is not the newest change any more. */
  dropped: readonly Operation[];
  /** Voxels that both they and the edits on top changed. */
  contested: number;
}

/**
 * Puts the server's changes after `queue.revision` under the waiting edits. A change of this person that is the same as
 * the first that waits is that one: it arrived, only its answer was lost. An undo means the change that was the newest
 * when it was asked for: with others' changes on top of that it is left off, so that it takes back none of theirs.
 * Throws a RangeError where the changes do not begin with the next revision.
 */
export function merge(queue: Queue, remote: readonly RemoteEdit[], me: string, canvas: Canvas): Merged {
  const merged = putUnder(queue, remote, canvas, (item, edit) => isSame(item, edit, me));
  if (merged.others.length === 0) return merged;
  const items = [...merged.queue.items];
  const dropped: Operation[] = [];
  for (let first = items[0]; first?.kind === "operation" && isReversal(first); first = items[0]) {
    dropped.push(first);
    items.shift();
  }
  return { ...merged, dropped, queue: { ...merged.queue, items } };
}

/** Puts what the server made of an own operation under the edits that were drawn since it was asked for. */
export function carriedOut(queue: Queue, id: string, change: RemoteEdit, canvas: Canvas): Merged {
  const merged = putUnder(without(queue, id), [change], canvas, () => false);
  return { ...merged, others: [], contested: 0 };
}

function isReversal({ name }: Pick<Operation, "name">): boolean {
  return name === "undo" || name === "redo";
}

function putUnder(
  queue: Queue,
  remote: readonly RemoteEdit[],
  canvas: Canvas,
  isOwn: (item: Item, edit: RemoteEdit) => boolean,
): Merged {
  const news = remote.filter((edit) => edit.revision > queue.revision);
  news.forEach((edit, n) => {
    if (edit.revision !== queue.revision + 1 + n) {
      throw new RangeError(`Expected the change of revision ${queue.revision + 1 + n}, got ${edit.revision}.`);
    }
  });
  const newest = news.at(-1);
  if (!newest) return { queue, others: [], settled: [], rebased: [], dropped: [], contested: 0 };
  const waiting = waitingEdits(queue);
  for (const edit of waiting.toReversed()) canvas.apply(edit.layer, inverse(edit.runs));
  const arrived = new Set<string>();
  const others: RemoteEdit[] = [];
  for (const edit of news) {
    canvas.apply(edit.layer, edit.runs);
    const first = queue.items.find((item) => !arrived.has(item.id));
    if (first && isOwn(first, edit)) arrived.add(first.id);
    else others.push(edit);
  }
  const top = putOnTop(waiting.filter((edit) => !arrived.has(edit.id)), canvas);
  const kept = new Map(top.edits.map((edit) => [edit.id, edit]));
  const items = queue.items
    .filter((item) => !arrived.has(item.id))
    .map((item) => (item.kind === "operation" ? item : kept.get(item.id)))
    .filter((item) => item !== undefined);
  const head = { revision: newest.revision, canUndo: true, canRedo: newest.tool === "undo" };
  return {
    queue: { ...queue, ...head, items, trouble: null },
    others,
    settled: [...arrived, ...top.gone],
    rebased: top.edits,
    dropped: [],
    contested: contested(top.edits, others),
  };
}

function isSame(own: Item, remote: RemoteEdit, me: string): boolean {
  if (remote.person !== me) return false;
  if (own.kind === "operation") {
    return own.unsure && own.name === remote.tool && (isReversal(own) || own.layer === remote.layer);
  }
  return own.tried && own.tool === remote.tool && own.layer === remote.layer && sameRuns(own.runs, remote.runs);
}

/** Puts edits on the canvas as sets of voxels with a value; `gone` are those that change nothing there. */
function putOnTop(edits: readonly Edit[], canvas: Canvas): { edits: Edit[]; gone: string[] } {
  const kept: Edit[] = [];
  const gone: string[] = [];
  for (const edit of edits) {
    const runs = repaint(edit.runs, canvas.data(edit.layer));
    if (isEmpty(runs)) gone.push(edit.id);
    else {
      canvas.apply(edit.layer, runs);
      kept.push({ ...edit, runs });
    }
  }
  return { edits: kept, gone };
}

function contested(edits: readonly Edit[], others: readonly RemoteEdit[]): number {
  let voxels = 0;
  for (const edit of edits) {
    for (const other of others) {
      if (edit.layer === other.layer) voxels += sharedVoxels(edit.runs, other.runs);
    }
  }
  return voxels;
}

/**
 * Takes up edits kept from a page that ended before they were stored. The canvas shows the server's labels at
 * `queue.revision`; `since` are all changes since the first of them was made.
 */
export function takeUp(
  queue: Queue,
  saved: readonly Edit[],
  history: { since: readonly RemoteEdit[]; me: string },
  canvas: Canvas,
): Merged {
  const arrived = new Set<string>();
  const others: RemoteEdit[] = [];
  for (const remote of history.since) {
    const first = saved.find((edit) => !arrived.has(edit.id));
    if (first && isSame(first, remote, history.me)) arrived.add(first.id);
    else others.push(remote);
  }
  const top = putOnTop(saved.filter((edit) => !arrived.has(edit.id)), canvas);
  return {
    queue: { ...queue, items: [...queue.items, ...top.edits] },
    others,
    settled: [...arrived, ...top.gone],
    rebased: top.edits,
    dropped: [],
    contested: contested(top.edits, others),
  };
}
