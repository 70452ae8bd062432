import { useState } from "preact/hooks";

import type { ApiError } from "../api";
import { asApiError } from "../app/load";

export interface Task {
  busy: boolean;
  problem: ApiError | null;
  run(work: () => Promise<void>): void;
}

/** Work that a button starts: one at a time, and what went wrong is kept to be shown. */
export function useTask(): Task {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const run = (work: () => Promise<void>) => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    work()
      .catch((failure: unknown) => setProblem(asApiError(failure)))
      .finally(() => setBusy(false));
  };
  return { busy, problem, run };
}
