/** Fetches a case slab by slab: what is looked at first, then outward, a few at once. */

import type { FillableStore } from "./stores";

/** About what a slab weighs: small enough that pictures come often, large enough that requests do not dominate. */
const SLAB_BYTES = 4 * 1024 * 1024;
const FIRST_SLAB_BYTES = 1024 * 1024;
const WAITS_MS = [300, 1000, 3000];

export interface Slab {
  from: number;
  to: number;
}

/** Slabs that cover 0 <= k < slices; the one around `focus` is smaller, so that the first picture is soon there. */
export function slabsOf(slices: number, sliceBytes: number, focus: number): Slab[] {
  const step = Math.max(1, Math.floor(SLAB_BYTES / sliceBytes));
  const first = Math.min(Math.max(1, Math.floor(FIRST_SLAB_BYTES / sliceBytes)), step, slices);
  const start = Math.min(Math.max(Math.round(focus) - Math.floor(first / 2), 0), slices - first);
  const slabs: Slab[] = [{ from: start, to: start + first }];
  for (let to = start; to > 0; to -= step) slabs.push({ from: Math.max(to - step, 0), to });
  for (let from = start + first; from < slices; from += step) slabs.push({ from, to: Math.min(from + step, slices) });
  return slabs;
}

/** The slab that is nearest to a slice; undefined where there is none. */
export function nearestSlab(slabs: readonly Slab[], focus: number): Slab | undefined {
  const away = ({ from, to }: Slab): number => Math.max(from - focus, focus - (to - 1), 0);
  return slabs.reduce<Slab | undefined>(
    (best, slab) => (best === undefined || away(slab) < away(best) ? slab : best),
    undefined,
  );
}

export interface Loading {
  store: FillableStore;
  sliceBytes: number;
  fetch: (slab: Slab, signal: AbortSignal) => Promise<ArrayBuffer>;
  parallel: number;
  /** The slice k that is looked at now. */
  focus: () => number;
  signal: AbortSignal;
  arrived: (slab: Slab) => void;
}

/**
 * Fills a store; resolves when every slab has arrived or the signal was aborted. A fetch that fails is tried again
 * three times, then everything stops with its error. Slabs that the store has already are not fetched.
 */
export async function load(loading: Loading): Promise<void> {
  const { store, sliceBytes, parallel, focus, signal } = loading;
  const missing = slabsOf(store.loaded.length, sliceBytes, focus()).filter(({ from, to }) =>
    store.loaded.subarray(from, to).includes(0),
  );
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const worker = async (): Promise<void> => {
    for (let slab = next(); slab && !either.aborted; slab = next()) {
      const bytes = await patiently(() => loading.fetch(slab!, either), either);
      if (bytes === null) return;
      store.fill(slab.from, slab.to, bytes);
      loading.arrived(slab);
    }
  };
  function next(): Slab | undefined {
    const slab = nearestSlab(missing, focus());
    if (slab) missing.splice(missing.indexOf(slab), 1);
    return slab;
  }
  try {
    await Promise.all(Array.from({ length: parallel }, worker));
  } catch (problem) {
    failed.abort();
    throw problem;
  }
}

/** Tries again after growing waits; null where the signal was aborted meanwhile. */
async function patiently(fetch: () => Promise<ArrayBuffer>, signal: AbortSignal): Promise<ArrayBuffer | null> {
  for (let attempt = 0; ; attempt++) {
    try {
      const bytes = await fetch();
      return signal.aborted ? null : bytes;
    } catch (problem) {
      if (signal.aborted) return null;
      const wait = WAITS_MS[attempt];
      if (wait === undefined || permanent(problem)) throw problem;
      await pause(wait, signal);
    }
  }
}

/** The server said no, which asking again does not change: an error with a status from 400 to 499 other than 429. */
function permanent(problem: unknown): boolean {
  const status = (problem as { status?: unknown } | null)?.status;
  return typeof status === "number" && status >= 400 && status < 500 && status !== 429;
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
