import { useEffect, useRef, useState } from "preact/hooks";

import type { Filters, State, Worklist, WorklistQuery } from "../../api";
import { Select } from "../parts";
import { count, stateName, STATES, structureName } from "../words";
import { changed, isFiltered, PAGE_SIZE, toggled } from "./query";

interface ControlProps {
  query: WorklistQuery;
  onQuery(query: WorklistQuery): void;
}

/** Which states are listed, each with how many cases there are. */
export function StateTabs({ query, onQuery, byState }: ControlProps & { byState: Worklist["byState"] | null }) {
  const all = STATES.reduce((sum, state) => sum + (byState?.[state] ?? 0), 0);
  const tab = (states: State[], text: string, cases: number, pressed: boolean) => (
    <button
      key={text}
      type="button"
      class="button tab"
      aria-pressed={pressed}
      onClick={() => onQuery(changed(query, { states }))}
    >
      {text} <span class="tab-count">{byState ? count(cases) : "…"}</span>
    </button>
  );
  return (
    <div class="row tabs" role="group" aria-label="States to list">
      {tab([], "All", all, query.states.length === 0)}
      {STATES.map((state) =>
        tab(toggled(query.states, state), stateName(state), byState?.[state] ?? 0, query.states.includes(state)),
      )}
    </div>
  );
}

export function FilterBar({ query, onQuery, filters }: ControlProps & { filters: Filters | null }) {
  const choice = (name: "structure" | "model" | "site" | "reader", label: string, values: readonly string[]) => {
    const chosen = query[name];
    // What the address asks for is shown even where no case has it any more.
    const known = chosen === "" || values.includes(chosen) ? values : [chosen, ...values];
    return (
      <Select
        label={label}
        value={chosen}
        options={[["", "All"], ...known.map((value) => [value, name === "structure" ? structureName(value) : value] as const)]}
        onChange={(value) => onQuery(changed(query, { [name]: value }))}
      />
    );
  };
  return (
    <div class="row filters" role="search" aria-label="Filters">
      <Search value={query.search} onSearch={(search) => onQuery(changed(query, { search }))} />
      {choice("structure", "Structure", filters?.structures ?? [])}
      {choice("model", "Model", filters?.models ?? [])}
      {choice("site", "Site", filters?.sites ?? [])}
      {choice("reader", "Reader", filters?.readers ?? [])}
      {isFiltered(query) && (
        <button
          type="button"
          class="button quiet"
          onClick={() =>
            onQuery(changed(query, { states: [], structure: "", model: "", site: "", reader: "", search: "" }))
          }
        >
          Clear filters
        </button>
      )}
    </div>
  );
}

const PAUSE_MS = 250;

function Search({ value, onSearch }: { value: string; onSearch(text: string): void }) {
  const [text, setText] = useState(value);
  const latest = useRef(onSearch);
  latest.current = onSearch;
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (text === value) return;
    const timer = setTimeout(() => latest.current(text.trim()), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <label class="field search">
      <span>
        Search <kbd>/</kbd>
      </span>
      <input
        class="input"
        type="search"
        id="search"
        placeholder="Patient, case, site, warning"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
    </label>
  );
}

export function Pager({ query, onQuery, total }: ControlProps & { total: number }) {
  const last = Math.min(query.offset + PAGE_SIZE, total);
  const to = (offset: number) => onQuery({ ...query, offset: Math.max(0, offset) });
  return (
    <nav class="row pager" aria-label="Pages of the worklist">
      <span role="status">{total === 0 ? "No cases" : `${count(query.offset + 1)}–${count(last)} of ${count(total)}`}</span>
      <button type="button" class="button" disabled={query.offset === 0} onClick={() => to(query.offset - PAGE_SIZE)}>
        Previous
      </button>
      <button type="button" class="button" disabled={last >= total} onClick={() => to(query.offset + PAGE_SIZE)}>
        Next
      </button>
    </nav>
  );
}
