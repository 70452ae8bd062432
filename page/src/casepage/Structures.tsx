import type { CaseStructure, DecisionRecord } from "../api";
import { Swatch } from "../app/parts";
import { percent, structureName, volume } from "../app/words";
import type { CaseDesk } from "./desk";
import { useStore } from "./store";
import { voxelMl } from "./volumes";

/** The newest decision about each structure; what was decided before the case was last changed does not count. */
export function decisionsOf(decisions: readonly DecisionRecord[], revision: number): Map<number, DecisionRecord> {
  const found = new Map<number, DecisionRecord>();
  const byTime = [...decisions].sort((one, other) => one.made.localeCompare(other.made));
  for (const decision of byTime) {
    if (decision.structure !== null && decision.revision === revision) found.set(decision.structure, decision);
  }
  return found;
}

const VERDICTS = {
  approve: ["good", "Approved"],
  reject: ["bad", "Rejected"],
  escalate: ["warn", "Escalated"],
} as const;

interface StructuresProps {
  desk: CaseDesk;
  decide: (structure: number) => void;
}

/** The structures: which one is drawn, which are shown, how large they are, and what was decided about each. */
export function Structures({ desk, decide }: StructuresProps) {
  const { structures, decisions } = useStore(desk.store, (state) => state.detail);
  const revision = useStore(desk.store, (state) => state.queue.revision);
  const hidden = useStore(desk.store, (state) => state.style.hidden);
  const decided = decisionsOf(decisions, revision);
  const all = () => desk.setStyle({ hidden: new Set() });
  const none = () => desk.setStyle({ hidden: new Set(structures.map(({ value }) => value)) });
  return (
    <section class="case-structures" aria-labelledby="structures-title">
      <div class="row">
        <h2 id="structures-title">Structures</h2>
        <button type="button" class="button quiet spread" onClick={hidden.size > 0 ? all : none}>
          {hidden.size > 0 ? "Show all" : "Hide all"}
        </button>
      </div>
      {structures.length === 0 && <p class="muted">The model found no structures here.</p>}
      <ul class="structure-list">
        {structures.map((structure, n) => (
          <Row
            key={structure.value}
            desk={desk}
            structure={structure}
            number={n + 1}
            hidden={hidden.has(structure.value)}
            decision={decided.get(structure.value)}
            decide={decide}
          />
        ))}
      </ul>
    </section>
  );
}

interface RowProps {
  desk: CaseDesk;
  structure: CaseStructure;
  number: number;
  hidden: boolean;
  decision: DecisionRecord | undefined;
  decide: (structure: number) => void;
}

function Row({ desk, structure, number, hidden, decision, decide }: RowProps) {
  const { value, name, colour, volumeMl, agreement } = structure;
  const active = useStore(desk.store, (state) => state.active === value);
  const voxels = useStore(desk.store, (state) => (state.voxels ? (state.voxels.get(value) ?? 0) : null));
  const ml = voxels === null ? volumeMl : voxels * voxelMl(desk.view.geometry);
  const [tone, word] = decision ? VERDICTS[decision.verdict] : ["", ""];
  return (
    <li class={`structure${active ? " active" : ""}`}>
      <input
        type="checkbox"
        checked={!hidden}
        aria-label={`Show ${name}`}
        title={`Show or hide ${name}`}
        onChange={() => desk.toggleHidden(value)}
      />
      <button
        type="button"
        class="button quiet structure-name"
        aria-pressed={active}
        title={number <= 9 ? `Draw ${name} (key ${number})` : `Draw ${name}`}
        onClick={() => desk.choose(value)}
      >
        <Swatch colour={colour} />
        <span class="name">{structureName(name)}</span>
        {number <= 9 && <kbd aria-hidden="true">{number}</kbd>}
      </button>
      <span class="structure-facts muted">
        {volume(ml)}
        {agreement !== null && <span title="Dice between the model's folds"> · folds {percent(agreement)}</span>}
      </span>
      <span class="structure-decision">
        {decision && <span class={`chip ${tone}`}>{word}</span>}
        <button
          type="button"
          class="button quiet small"
          aria-label={`Decide about ${name}`}
          onClick={() => decide(value)}
        >
          Decide…
        </button>
      </span>
    </li>
  );
}
