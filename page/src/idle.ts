/** For how long nobody touched this window. Servers on a network end sessions by it. */

const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel"] as const;

let touched = Date.now();

export function watchTouches(): void {
  for (const sign of SIGNS) addEventListener(sign, () => (touched = Date.now()), { capture: true, passive: true });
}

export function idleSeconds(): number {
  return Math.max(0, Math.floor((Date.now() - touched) / 1000));
}
