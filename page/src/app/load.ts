import { useCallback, useEffect, useState } from "preact/hooks";

import { ApiError } from "../api";

export interface Loaded<T> {
  /** What was loaded last; it stays while something newer is on its way. */
  value: T | null;
  problem: ApiError | null;
  loading: boolean;
  reload(): void;
}

/** Loads when the page appears and whenever `wanted` (a text that stands for what is wanted) changes. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, wanted = ""): Loaded<T> {
  const [turn, setTurn] = useState(0);
  const [state, setState] = useState<Omit<Loaded<T>, "reload">>({ value: null, problem: null, loading: true });
  useEffect(() => {
    const stop = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    load(stop.signal).then(
      (value) => {
        if (!stop.signal.aborted) setState({ value, problem: null, loading: false });
      },
      (problem: unknown) => {
        if (!stop.signal.aborted) setState((before) => ({ ...before, problem: asApiError(problem), loading: false }));
      },
    );
    return () => stop.abort();
    // `load` is made anew at every drawing; `wanted` says whether it means something else.
  }, [wanted, turn]);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  return { ...state, reload };
}

export function asApiError(problem: unknown): ApiError {
  if (problem instanceof ApiError) return problem;
  const text = problem instanceof Error ? problem.message : String(problem);
  return new ApiError(500, "The page failed.", `Reload it; if that does not help, report this: ${text}`);
}
