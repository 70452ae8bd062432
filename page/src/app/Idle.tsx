import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError, session as askSession } from "../api";
import { idleSeconds } from "../idle";

const WARNED_S = 60;
const AGAIN_S = 10;

/** Seconds until somebody who touches nothing is signed out; null while that is far away or never happens. */
export function secondsLeft(idle: number, limit: number | null): number | null {
  if (limit === null) return null;
  const left = limit - idle;
  return left <= Math.min(WARNED_S, limit / 2) ? Math.max(0, left) : null;
}

/**
 * Warns who is about to be signed out, and asks the server when the time is over: somebody may have been at work in
 * another window, which only it knows.
 */
export function Idle({ limit, onEnd }: { limit: number | null; onEnd(): void }) {
  const [left, setLeft] = useState<number | null>(null);
  useEffect(() => {
    if (limit === null) return;
    let asked = 0;
    const timer = setInterval(() => {
      const now = secondsLeft(idleSeconds(), limit);
      setLeft(now);
      if (now !== 0 || Date.now() - asked < AGAIN_S * 1000) return;
      asked = Date.now();
      askSession().catch((problem: unknown) => {
        if (problem instanceof ApiError && problem.status === 401) onEnd();
      });
    }, 1000);
    return () => clearInterval(timer);
  }, [limit]);
  return left === null || left === 0 ? null : <Warning />;
}

function Warning() {
  const host = useRef<HTMLDivElement>(null);
  // Above dialogues too, which else would cover it. Older browsers show it beneath them.
  useEffect(() => host.current?.showPopover?.(), []);
  return (
    <div ref={host} class="idle notice warn" popover="manual" role="alert">
      Nobody is at work here: you will be signed out within a minute. Move the mouse or press a key to stay.
    </div>
  );
}
