import type { CaseDesk } from "./desk";
import { useStore } from "./store";

/** What happened, on screen until it is dismissed, and read out. */
export function Notices({ desk }: { desk: CaseDesk }) {
  const notices = useStore(desk.store, (state) => state.notices);
  const said = useStore(desk.store, (state) => state.said);
  return (
    <>
      <p class="visually-hidden" aria-live="polite">
        {said}
      </p>
      <div class="notices" role="log" aria-label="Messages">
        {notices.map(({ id, tone, text }) => (
          <div key={id} class={`notice ${tone} row`}>
            <span>{text}</span>
            <button
              type="button"
              class="button quiet small spread"
              aria-label={`Dismiss: ${text}`}
              onClick={() => desk.dismiss(id)}
            >
              ✕
            </button>
          </div>
        ))}
      </div>
    </>
  );
}
