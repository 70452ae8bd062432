import { useState } from "preact/hooks";

import { structureName } from "../app/words";
import { planeAxes } from "../editing/workplace";
import { STRUCTURE_TOOLS, type StructureTool } from "./choices";
import type { CaseDesk } from "./desk";
import { useStore } from "./store";

/** Tools that change the whole active structure at once. */
export function WholeStructure({ desk }: { desk: CaseDesk }) {
  const active = useStore(desk.store, (state) => state.active);
  const name = active === null ? "no structure" : (desk.structure(active)?.name ?? "");
  const busy = useStore(desk.store, (state) => state.queue.items.some((item) => item.kind === "operation"));
  return (
    <section class="whole" aria-labelledby="whole-title">
      <h2 id="whole-title">Change all of {structureName(name)}</h2>
      {STRUCTURE_TOOLS.map((tool) => (
        <Tool key={tool.name} desk={desk} tool={tool} busy={busy} />
      ))}
      <Relabel desk={desk} busy={busy} />
    </section>
  );
}

function Tool({ desk, tool, busy }: { desk: CaseDesk; tool: StructureTool; busy: boolean }) {
  const { field } = tool;
  const [amount, setAmount] = useState(field ? startAt(field, desk) : 0);
  const use = () => {
    const parameters: Record<string, unknown> = {};
    if (field) parameters[field.name] = amount;
    if (tool.needsAxis) parameters["axis"] = planeAxes(desk.view.geometry, desk.view.activePlane()).normal;
    if (tool.needsIndex) parameters["index"] = desk.view.crosshair.map(Math.round);
    desk.operate(tool.name, parameters);
  };
  return (
    <div class="row whole-tool">
      <button type="button" class="button" title={tool.hint} disabled={busy} onClick={use}>
        {tool.label}
      </button>
      {field && (
        <input
          class="input amount"
          type="number"
          min={field.step}
          step={field.step}
          value={amount}
          aria-label={`${tool.label}: ${field.label}`}
          onChange={(event) => setAmount(event.currentTarget.valueAsNumber || startAt(field, desk))}
        />
      )}
      {field && <span class="muted">{field.name}</span>}
    </div>
  );
}

/** A length shorter than a voxel would change nothing. */
function startAt({ name, start, step }: NonNullable<StructureTool["field"]>, desk: CaseDesk): number {
  if (name !== "mm") return start;
  return Math.max(start, Math.ceil(Math.min(...desk.view.geometry.spacingMm) / step) * step);
}

/** Gives the active structure, or its piece under the crosshair, to another structure. */
function Relabel({ desk, busy }: { desk: CaseDesk; busy: boolean }) {
  const structures = useStore(desk.store, (state) => state.detail.structures);
  const overlapping = useStore(desk.store, (state) => state.detail.layers.some((layer) => layer > 0));
  const active = useStore(desk.store, (state) => state.active);
  const others = structures.filter(({ value }) => value !== active);
  const [chosen, setChosen] = useState<number | null>(null);
  const to = others.some(({ value }) => value === chosen) ? chosen : (others[0]?.value ?? null);
  if (overlapping || to === null) return null;
  const use = (piece: boolean) => {
    const index = piece ? { index: desk.view.crosshair.map(Math.round) } : {};
    desk.operate("relabel", { to, ...index });
  };
  return (
    <div class="row whole-tool">
      <label class="row">
        Relabel as
        <select class="input" value={to} onChange={(event) => setChosen(Number(event.currentTarget.value))}>
          {others.map(({ value, name }) => (
            <option key={value} value={value}>
              {structureName(name)}
            </option>
          ))}
        </select>
      </label>
      <button type="button" class="button" disabled={busy} onClick={() => use(true)}>
        Piece at crosshair
      </button>
      <button type="button" class="button" disabled={busy} onClick={() => use(false)}>
        All of it
      </button>
    </div>
  );
}
