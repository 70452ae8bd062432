import type { Layout, Style } from "../contract";
import { decimal } from "../app/words";
import { LAYOUTS, SHOWN } from "./choices";
import type { CaseDesk } from "./desk";
import { useStore } from "./store";

/** How the pictures look: window, layout, what lies over the scan. */
export function ViewBar({ desk }: { desk: CaseDesk }) {
  const style = useStore(desk.store, (state) => state.style);
  const layout = useStore(desk.store, (state) => state.layout);
  const reference = useStore(desk.store, (state) => state.detail.hasReference);
  return (
    <div class="view-bar row" role="group" aria-label="Pictures">
      <Windows desk={desk} />
      <label class="row" title="Layout">
        <span class="name">Layout</span>
        <select
          class="input"
          value={layout}
          onChange={(event) => desk.setLayout(event.currentTarget.value as Layout)}
        >
          {LAYOUTS.map(({ name, label }) => (
            <option key={name} value={name}>
              {label}
            </option>
          ))}
        </select>
      </label>
      <label class="row" title="Shown">
        <span class="name">Shown</span>
        <select
          class="input"
          value={style.shown}
          onChange={(event) => desk.setStyle({ shown: event.currentTarget.value as Style["shown"] })}
        >
          {SHOWN.filter(({ needsReference }) => reference || !needsReference).map(({ name, label }) => (
            <option key={name} value={name}>
              {label}
            </option>
          ))}
        </select>
      </label>
      <label class="row">
        Opacity
        <input
          type="range"
          min="0"
          max="1"
          step="0.05"
          value={style.opacity}
          aria-valuetext={`${Math.round(style.opacity * 100)} %`}
          onInput={(event) => desk.setStyle({ opacity: event.currentTarget.valueAsNumber })}
        />
      </label>
      <Check label="Contour" on={style.contour} change={(contour) => desk.setStyle({ contour })} />
      <Check label="Crosshair" on={style.crosshair} change={(crosshair) => desk.setStyle({ crosshair })} />
      <Loading desk={desk} />
    </div>
  );
}

function Check({ label, on, change }: { label: string; on: boolean; change: (on: boolean) => void }) {
  return (
    <label class="row check">
      <input type="checkbox" checked={on} onChange={(event) => change(event.currentTarget.checked)} />
      {label}
    </label>
  );
}

function Windows({ desk }: { desk: CaseDesk }) {
  const window = useStore(desk.store, (state) => state.window);
  const { windows, unit } = useStore(desk.store, (state) => state.detail.image);
  const at = windows.findIndex(({ lower, upper }) => lower === window.lower && upper === window.upper);
  const span = `${decimal(window.lower, 0)} to ${decimal(window.upper, 0)} ${unit}`;
  return (
    <label class="row" title="Window">
      <span class="name">Window</span>
      <select
        class="input"
        value={at}
        title={span}
        onChange={(event) => {
          const chosen = windows[Number(event.currentTarget.value)];
          if (chosen) desk.setWindow({ lower: chosen.lower, upper: chosen.upper });
        }}
      >
        {at < 0 && <option value={-1}>{span}</option>}
        {windows.map(({ name }, n) => (
          <option key={name} value={n}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

function Loading({ desk }: { desk: CaseDesk }) {
  const { share, problem } = useStore(desk.store, (state) => state.progress);
  if (problem) {
    return (
      <span class="loading row" role="alert">
        <span class="chip bad">{problem}</span>
        <button type="button" class="button" onClick={() => desk.view.retryLoading()}>
          Load again
        </button>
      </span>
    );
  }
  if (share >= 1) return null;
  return (
    <label class="loading row">
      Loading <progress max="1" value={share} />
    </label>
  );
}
