import { StateChip } from "../app/parts";
import { worklistAddress } from "../app/route";
import { counted, personName } from "../app/words";
import { canRedo, canUndo, waitingEdits } from "../editing/queue";
import type { CaseDesk } from "./desk";
import { isDecided } from "./deskState";
import type { DialogueName } from "./dialogues";
import { saveText } from "./saving";
import { useStore } from "./store";

interface TopBarProps {
  desk: CaseDesk;
  open: (dialogue: DialogueName) => void;
  next: () => void;
}

/** Which case this is, who else is here, whether all is saved, and what can be decided. */
export function TopBar({ desk, open, next }: TopBarProps) {
  const detail = useStore(desk.store, (state) => state.detail);
  const closed = isDecided(detail);
  const may = desk.person.role !== "viewer";
  const name = detail.patientName ? personName(detail.patientName) : detail.pseudonym;
  return (
    <div class="top-bar row">
      <div class="case-is row">
        <a class="button quiet" href={worklistAddress()}>
          ‹ Worklist
        </a>
        <h1 class="case-name" title={name}>
          {name}
        </h1>
        {detail.patientName && (
          <span class="muted alias" title={detail.pseudonym}>
            {detail.pseudonym}
          </span>
        )}
        <StateChip state={detail.state} />
        <Others desk={desk} />
      </div>
      <span class="row spread">
        <Saving desk={desk} />
        <Undoing desk={desk} />
        {may && closed && (
          <button type="button" class="button" onClick={() => open("reopen")}>
            Reopen…
          </button>
        )}
        {may && detail.state !== "rejected" && (
          <button type="button" class="button" onClick={() => open("second")}>
            Second reader…
          </button>
        )}
        {may && !closed && (
          <button type="button" class="button" onClick={() => open("upload")}>
            Upload…
          </button>
        )}
        <button type="button" class="button" onClick={() => open("export")}>
          Export…
        </button>
        {may && (
          <button
            type="button"
            class="button primary"
            disabled={closed}
            aria-keyshortcuts="a"
            onClick={() => open("decide")}
          >
            Decide…
          </button>
        )}
        <button type="button" class="button" aria-keyshortcuts="n" onClick={next}>
          Next case
        </button>
        <button type="button" class="button quiet" aria-keyshortcuts="?" onClick={() => open("help")}>
          Keys <kbd>?</kbd>
        </button>
      </span>
    </div>
  );
}

function Others({ desk }: { desk: CaseDesk }) {
  const present = useStore(desk.store, (state) => state.present);
  if (present.length === 0) return null;
  const names = present.map(({ name }) => name).join(", ");
  return (
    <span class="chip warn others" role="status" title="Changes by several people are put together; you are told of each.">
      Also here: {names}
    </span>
  );
}

function Saving({ desk }: { desk: CaseDesk }) {
  const queue = useStore(desk.store, (state) => state.queue);
  const tone = queue.trouble ? "bad" : queue.items.length > 0 ? "accent" : "good";
  const refused = queue.trouble?.kind === "refused";
  return (
    <span class="saves">
      <span class={`chip ${tone} saving`} role="status" title={queue.trouble?.text ?? ""}>
        {saveText(queue)}
      </span>
      {queue.trouble && (
        <span class="trouble row">
          <span aria-hidden="true">{saveText(queue)}</span>
          <button type="button" class="button small" onClick={() => desk.sender.retry()}>
            Try now
          </button>
          {refused && (
            <button
              type="button"
              class="button danger small"
              title={queue.trouble.text}
              onClick={() => desk.sender.discard()}
            >
              Give up {counted(waitingEdits(queue).length, "stroke")}
            </button>
          )}
        </span>
      )}
    </span>
  );
}

function Undoing({ desk }: { desk: CaseDesk }) {
  const undo = useStore(desk.store, (state) => state.detail.editable && canUndo(state.queue));
  const redo = useStore(desk.store, (state) => state.detail.editable && canRedo(state.queue));
  return (
    <>
      <button type="button" class="button" disabled={!undo} aria-keyshortcuts="z Control+Z" onClick={() => desk.undo()}>
        Undo <kbd>z</kbd>
      </button>
      <button
        type="button"
        class="button"
        disabled={!redo}
        aria-keyshortcuts="Shift+Z Control+Y"
        onClick={() => desk.redo()}
      >
        Redo <kbd>Z</kbd>
      </button>
    </>
  );
}
