import { Dialogue } from "../app/parts";
import { VIEWER_KEYS, VIEWER_MOUSE } from "../viewer";
import { BINDINGS, type Binding } from "./keyboard";

const GROUPS: readonly Binding["group"][] = ["Tools", "Drawing", "Structures", "Pictures", "Case"];

/** All keys, as they are bound. */
export function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialogue title="Keys and mouse" onClose={onClose}>
      <div class="help" tabIndex={0} role="region" aria-label="Keys and mouse">
        {GROUPS.map((group) => (
          <Keys
            key={group}
            title={group}
            rows={[...BINDINGS.filter((binding) => binding.group === group), ...(group === "Pictures" ? VIEWER_KEYS : [])]}
          />
        ))}
        <Keys title="Mouse" rows={VIEWER_MOUSE} />
      </div>
      <div class="row">
        <button type="button" class="button primary" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialogue>
  );
}

function Keys({ title, rows }: { title: string; rows: readonly { keys: string; does: string }[] }) {
  return (
    <section>
      <h3>{title}</h3>
      <dl class="keys">
        {rows.map(({ keys, does }) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
