import { TOOLS } from "./choices";
import type { CaseDesk } from "./desk";
import { ToolIcon } from "./icons";
import { useStore } from "./store";

/** The tools, each with its key. */
export function Palette({ desk }: { desk: CaseDesk }) {
  const chosen = useStore(desk.store, (state) => state.tool);
  const editable = useStore(desk.store, (state) => state.detail.editable);
  return (
    <div class="palette" role="group" aria-label="Tools">
      {TOOLS.map(({ name, label, key, hint, edits }) => (
        <button
          key={name}
          type="button"
          class="button quiet tool"
          aria-pressed={chosen === name}
          aria-keyshortcuts={key}
          aria-disabled={edits && !editable}
          title={`${hint} (${key})`}
          onClick={() => desk.select(name)}
        >
          <ToolIcon tool={name} />
          <span>
            {label} <kbd>{key}</kbd>
          </span>
        </button>
      ))}
    </div>
  );
}
