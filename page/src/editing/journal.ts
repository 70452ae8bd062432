/** Edits that the server may not have yet, kept in this browser so that a crash of page or server loses none. */

import type { Edit } from "./queue";
import { livePages, type LivePages } from "./livePages";
import { packRuns, unpackRuns } from "./runs";

const DATABASE = "delineate-review";
const STORE = "waiting";

/** Whose edits of which case, and at which revision they were made. */
export interface Saved {
  edit: Edit;
  base: number;
}

interface Row {
  id: string;
  owner: string;
  /** Which opened case it waits in; no other one sends it while that is open. */
  page?: string;
  /** Rises from edit to edit, over sessions too. */
  order: number;
  base: number;
  layer: number;
  tool: string;
  parameters: Record<string, unknown>;
  tried: boolean;
  packed: Uint8Array;
}

export interface Journal {
  put(edit: Edit, base: number): Promise<void>;
  remove(ids: readonly string[]): Promise<void>;
  /** All that waits on this computer, oldest first. */
  saved(): Promise<Saved[]>;
  /** What pages that are gone left: from now on it is this one's. Oldest first. */
  takeOver(): Promise<Saved[]>;
  /** Leaves what still waits to whoever opens the case next. */
  close(): void;
}

/** For browsers that keep nothing (private windows): strokes wait in memory only. */
export function memoryJournal(): Journal {
  const rows = new Map<string, Saved>();
  return {
    put: async (edit, base) => void rows.set(edit.id, { edit, base }),
    remove: async (ids) => ids.forEach((id) => rows.delete(id)),
    saved: async () => [...rows.values()],
    takeOver: async () => [],
    close: () => undefined,
  };
}

/** The journal of one person and case in this browser's IndexedDB. */
export async function openJournal(person: string, caseKey: string, pages: LivePages = livePages()): Promise<Journal> {
  const database = await open();
  const owner = JSON.stringify([person, caseKey]);
  const page = crypto.randomUUID();
  const release = await pages.enter(page);
  const orders = new Map<string, number>();
  let latest = Date.now();

  const orderOf = (id: string): number => {
    const known = orders.get(id);
    if (known !== undefined) return known;
    latest = Math.max(latest + 1, Date.now());
    orders.set(id, latest);
    return latest;
  };

  return {
    async put(edit, base) {
      const { id, layer, tool, parameters, tried, runs } = edit;
      const row: Row = { id, owner, page, order: orderOf(id), base, layer, tool, parameters, tried, packed: packRuns(runs) };
      await written(database, (store) => void store.put(row));
    },
    async remove(ids) {
      if (ids.length > 0) await written(database, (store) => ids.forEach((id) => store.delete(id)));
    },
    async saved() {
      const rows = await answer<Row[]>(rowsOf(database.transaction(STORE).objectStore(STORE), owner));
      return inOrder(rows).map(editOf);
    },
    async takeOver() {
      const alive = await pages.alive();
      const left: Row[] = [];
      // Read and claimed in one transaction, so that of two pages one gets them.
      await written(database, (store) => {
        const query = rowsOf(store, owner);
        query.onsuccess = () => {
          left.push(...query.result.filter((row) => row.page !== page && !alive.has(row.page ?? "")));
          for (const row of left) store.put({ ...row, page });
        };
      });
      for (const row of inOrder(left)) orders.set(row.id, row.order);
      return left.map(editOf);
    },
    close: release,
  };
}

function rowsOf(store: IDBObjectStore, owner: string): IDBRequest<Row[]> {
  return store.index("owner").getAll(owner);
}

function inOrder(rows: Row[]): Row[] {
  return rows.sort((one, other) => one.order - other.order);
}

function editOf({ id, base, layer, tool, parameters, tried, packed }: Row): Saved {
  return { base, edit: { kind: "edit", id, layer, tool, parameters, tried, runs: unpackRuns(packed) } };
}

async function open(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore(STORE, { keyPath: "id" }).createIndex("owner", "owner");
  };
  return answer(request);
}

function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("This browser's database failed."));
  });
}

/** Strict: done only when the disk has it, as far as the browser can tell. */
function written(database: IDBDatabase, change: (store: IDBObjectStore) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, "readwrite", { durability: "strict" });
    transaction.oncomplete = () => resolve();
    transaction.onerror = () => reject(transaction.error ?? new Error("This browser's database failed."));
    transaction.onabort = () => reject(transaction.error ?? new Error("This browser's database is full."));
    change(transaction.objectStore(STORE));
  });
}
