import { BrushTool } from "../editing/brushTool";
import { LassoTool } from "../editing/lassoTool";
import { PromptTool, type PromptHost } from "../editing/promptTool";
import type { DrawingTool, Workplace } from "../editing/workplace";
import type { ToolName } from "./choices";

/** The tools that draw, by name. One more is one more line here, and one in `choices.ts`. */
export function drawingTools(place: Workplace, host: PromptHost): ReadonlyMap<ToolName, DrawingTool> {
  const tools: DrawingTool[] = [
    new BrushTool("brush", place),
    new BrushTool("eraser", place),
    new BrushTool("threshold_brush", place),
    new LassoTool(place),
    new PromptTool("point", place, host),
    new PromptTool("box", place, host),
    new PromptTool("scribble", place, host),
  ];
  return new Map(tools.map((tool) => [tool.name as ToolName, tool]));
}
