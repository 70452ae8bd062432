import { counted } from "../app/words";
import type { PaintOver } from "../editing/painting";
import type { ProposalMethod } from "../editing/proposals";
import type { DrawingSettings } from "../editing/workplace";
import { TOOLS } from "./choices";
import type { CaseDesk } from "./desk";
import { useStore } from "./store";

/** How the chosen tool works: its size, shape, limits; or the proposal that is shown. */
export function ToolOptions({ desk }: { desk: CaseDesk }) {
  const tool = useStore(desk.store, (state) => state.tool);
  const choice = TOOLS.find(({ name }) => name === tool)!;
  const brushes = tool === "brush" || tool === "eraser" || tool === "threshold_brush";
  return (
    <div class="tool-options row" role="group" aria-label={`Options: ${choice.label}`}>
      {brushes && <Brush desk={desk} />}
      {(brushes || tool === "lasso") && <Painting desk={desk} />}
      {tool === "threshold_brush" && <Limits desk={desk} />}
      {(tool === "point" || tool === "box" || tool === "scribble") && <Method desk={desk} />}
      <span class="muted hint">{choice.hint}</span>
    </div>
  );
}

function Brush({ desk }: { desk: CaseDesk }) {
  const { radiusMm, shape } = useStore(desk.store, (state) => state.drawing);
  return (
    <>
      <label class="row">
        Radius
        <input
          type="range"
          min="0.5"
          max="40"
          step="0.5"
          value={radiusMm}
          onInput={(event) => desk.setDrawing({ radiusMm: event.currentTarget.valueAsNumber })}
        />
        <output class="number radius">{radiusMm} mm</output>
      </label>
      <select
        class="input"
        aria-label="Shape of the brush"
        value={shape}
        onChange={(event) => desk.setDrawing({ shape: event.currentTarget.value as DrawingSettings["shape"] })}
      >
        <option value="disc">Disc in the slice</option>
        <option value="ball">Ball in 3D</option>
      </select>
    </>
  );
}

function Painting({ desk }: { desk: CaseDesk }) {
  const { over, erases } = useStore(desk.store, (state) => state.drawing);
  const overlapping = useStore(desk.store, (state) => state.detail.layers.some((layer) => layer > 0));
  if (overlapping) return null;
  return (
    <>
      <select
        class="input"
        aria-label="What may be painted over"
        value={over}
        onChange={(event) => desk.setDrawing({ over: event.currentTarget.value as PaintOver })}
      >
        <option value="background">Over background only</option>
        <option value="all">Over everything shown</option>
      </select>
      <select
        class="input"
        aria-label="What is erased"
        value={erases}
        onChange={(event) => desk.setDrawing({ erases: event.currentTarget.value as DrawingSettings["erases"] })}
      >
        <option value="active">Erases active structure</option>
        <option value="all">Erases any structure shown</option>
      </select>
    </>
  );
}

function Limits({ desk }: { desk: CaseDesk }) {
  const { limits } = useStore(desk.store, (state) => state.drawing);
  const unit = useStore(desk.store, (state) => state.detail.image.unit);
  const change = (side: "lower" | "upper", value: number) => {
    if (!Number.isNaN(value)) desk.setDrawing({ limits: { ...limits, [side]: value } });
  };
  return (
    <span class="row">
      {(["lower", "upper"] as const).map((side) => (
        <label class="row" key={side}>
          {side === "lower" ? "From" : "to"}
          <input
            class="input limit"
            type="number"
            step="any"
            value={Math.round(limits[side] * 100) / 100}
            onChange={(event) => change(side, event.currentTarget.valueAsNumber)}
          />
        </label>
      ))}
      {unit}
      <button type="button" class="button" onClick={() => desk.setDrawing({ limits: desk.view.window() })}>
        As the window
      </button>
    </span>
  );
}

function Method({ desk }: { desk: CaseDesk }) {
  const method = useStore(desk.store, (state) => state.method);
  const promptable = useStore(desk.store, (state) => state.detail.promptable);
  return (
    <label class="row">
      Method
      <select
        class="input"
        value={method}
        onChange={(event) => desk.setMethod(event.currentTarget.value as ProposalMethod)}
      >
        <option value="auto">Automatic</option>
        {promptable && <option value="model">Promptable model</option>}
        <option value="geodesic">Geodesic distance</option>
        <option value="random_walker">Random walker</option>
      </select>
    </label>
  );
}

/** Over the pictures, which must not move under the pointer when a proposal comes. */
export function ProposalBar({ desk }: { desk: CaseDesk }) {
  const proposal = useStore(desk.store, (state) => state.proposal);
  if (proposal.step === "none") return null;
  return (
    <div class="proposal row">
      {proposal.step === "asking" && <span>Working out a proposal…</span>}
      {proposal.step === "failed" && <span class="chip bad">{proposal.text}</span>}
      {proposal.step === "shown" && (
        <span>
          {counted(proposal.voxels, "voxel")} · {proposal.method.replaceAll("_", " ")}, {proposal.seconds.toFixed(1)} s
        </span>
      )}
      <button
        type="button"
        class="button primary"
        disabled={proposal.step !== "shown"}
        onClick={() => desk.proposals.accept()}
      >
        Accept <kbd>Enter</kbd>
      </button>
      <button
        type="button"
        class="button"
        title="Takes back the last hint (Backspace)"
        aria-keyshortcuts="Backspace"
        onClick={() => desk.proposals.takeBack()}
      >
        Take back hint
      </button>
      <button type="button" class="button" onClick={() => desk.proposals.drop()}>
        Drop <kbd>Esc</kbd>
      </button>
    </div>
  );
}
