import type { ToolName } from "./choices";

/** Strokes on a 20 x 20 ground. */
const PATHS: Record<ToolName, string> = {
  look: "M10 2v5M10 13v5M2 10h5M13 10h5",
  brush: "M17 3 9 11M9 11c-3-1-5 1-5 3 0 1-1 2-2 2 2 2 7 1 8-2 .4-1 0-2-1-3Z",
  eraser: "M12 4 4 12l4 4h3l6-6-5-6ZM8 8l5 5M6 16h11",
  threshold_brush: "M2 16h3V9h3v7h3V4h3v12h4M2 7h16",
  lasso: "M10 3c5 0 8 2 8 5s-3 5-8 5-8-2-8-5 3-5 8-5ZM6 12c-2 2 0 4-2 5",
  point: "M10 7v6M7 10h6M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14Z",
  box: "M3 5h14v10H3ZM3 5h.01M17 15h.01",
  scribble: "M2 13c2-8 4-8 5-4s2 6 4 2 3-6 4-2 1 4 3 1",
  distance: "M3 17 17 3M3 12v5h5M12 3h5v5",
  intensity: "M10 4a6 6 0 0 1 6 6 6 6 0 0 1-12 0 6 6 0 0 1 6-6ZM10 1v3M10 16v3M1 10h3M16 10h3",
};

export function ToolIcon({ tool }: { tool: ToolName }) {
  return (
    <svg class="tool-icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[tool]} />
    </svg>
  );
}
