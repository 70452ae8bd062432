import { useId, useRef, useState } from "preact/hooks";

import type { CaseFinding, CaseFindings } from "../api";
import * as api from "../api";
import { useLoaded, type Loaded } from "../app/load";
import { Problem } from "../app/parts";
import { moment, plain, structureName, withPlainNames } from "../app/words";
import type { CaseDesk } from "./desk";
import { useStore } from "./store";

const TABS = ["Findings", "Warnings", "History", "Measurements"] as const;
type Tab = (typeof TABS)[number];

interface SideProps {
  desk: CaseDesk;
  findings: Loaded<CaseFindings>;
}

/** What is known of the case, beside the pictures. */
export function Side({ desk, findings }: SideProps) {
  const [tab, setTab] = useState<Tab>("Findings");
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const warnings = useStore(desk.store, (state) => state.detail.warnings.length);
  const measured = useStore(desk.store, (state) => state.measurements.length);
  const counts: Partial<Record<Tab, number>> = { Warnings: warnings, Measurements: measured };
  const turn = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = (TABS.indexOf(tab) + step + TABS.length) % TABS.length;
    setTab(TABS[next]!);
    list.current?.querySelectorAll<HTMLElement>("[role=tab]")[next]?.focus();
  };
  return (
    <>
      <div class="side-tabs" role="tablist" aria-label="About this case" ref={list} onKeyDown={turn}>
        {TABS.map((each) => (
          <button
            key={each}
            type="button"
            role="tab"
            id={`${id}-${each}`}
            class="button quiet"
            aria-selected={tab === each}
            aria-controls={`${id}-panel`}
            tabIndex={tab === each ? 0 : -1}
            onClick={() => setTab(each)}
          >
            {each}
            {counts[each] ? ` (${counts[each]})` : ""}
          </button>
        ))}
      </div>
      <div class="tab-panel" role="tabpanel" id={`${id}-panel`} aria-labelledby={`${id}-${tab}`} tabIndex={0}>
        {tab === "Findings" && <Findings desk={desk} findings={findings} />}
        {tab === "Warnings" && <Warnings desk={desk} />}
        {tab === "History" && <History desk={desk} />}
        {tab === "Measurements" && <Measurements desk={desk} />}
      </div>
    </>
  );
}

function Findings({ desk, findings }: SideProps) {
  const { value, problem, reload, loading } = findings;
  if (problem) return <Problem problem={problem} retry={reload} />;
  if (!value) return <p class="muted">Measuring…</p>;
  return (
    <div class="stack">
      {value.lesions.length > 0 && <FindingList title="Lesions" desk={desk} findings={value.lesions} />}
      <FindingList title="Structures" desk={desk} findings={value.findings} />
      <button type="button" class="button" disabled={loading} onClick={reload}>
        {loading ? "Measuring…" : "Measure again"}
      </button>
    </div>
  );
}

function FindingList(props: { title: string; desk: CaseDesk; findings: readonly CaseFinding[] }) {
  const { title, desk, findings } = props;
  return (
    <section>
      <h3>{title}</h3>
      {findings.length === 0 && <p class="muted">Nothing was measured.</p>}
      {[...byStructure(findings)].map(([structure, some]) => (
        <section key={structure} aria-label={structureName(structure)}>
          <h4>{structureName(structure)}</h4>
          <ul class="finding-list">
            {some.map((finding, n) => (
              <li key={n}>
                <Place desk={desk} finding={finding} />
              </li>
            ))}
          </ul>
        </section>
      ))}
    </section>
  );
}

function byStructure(findings: readonly CaseFinding[]): Map<string, CaseFinding[]> {
  const found = new Map<string, CaseFinding[]>();
  for (const finding of findings) found.set(finding.structure, [...(found.get(finding.structure) ?? []), finding]);
  return found;
}

/** Under its structure's name a finding need not say it again. */
function Place({ desk, finding }: { desk: CaseDesk; finding: CaseFinding }) {
  const { structure, index } = finding;
  const { structures } = desk.store.get().detail;
  const said = finding.text.startsWith(`${structure}: `) ? finding.text.slice(structure.length + 2) : finding.text;
  const text = withPlainNames(said, structures);
  if (!index) return <span class="finding">{text}</span>;
  return (
    <button type="button" class="button quiet finding" onClick={() => desk.jump(index)}>
      {text} <span aria-hidden="true">→</span>
      <span class="visually-hidden">(go there)</span>
    </button>
  );
}

function Warnings({ desk }: { desk: CaseDesk }) {
  const { warnings, reasons, structures } = useStore(desk.store, (state) => state.detail);
  return (
    <div class="stack">
      {warnings.length === 0 && <p class="muted">No warnings.</p>}
      {warnings.map((warning) => (
        <p key={warning} class="notice warn">
          {withPlainNames(warning, structures)}
        </p>
      ))}
      {reasons.length > 0 && (
        <section>
          <h3>Why this case is where it is in the worklist</h3>
          <ul>
            {reasons.map((reason) => (
              <li key={reason}>{withPlainNames(reason, structures)}</li>
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}

function History({ desk }: { desk: CaseDesk }) {
  const revision = useStore(desk.store, (state) => state.queue.revision);
  const state = useStore(desk.store, ({ detail }) => detail.state);
  const { value, problem, reload } = useLoaded(() => api.history(desk.key), `${revision} ${state}`);
  if (problem) return <Problem problem={problem} retry={reload} />;
  if (!value) return <p class="muted">Loading…</p>;
  return (
    <ol class="history" reversed>
      {value.toReversed().map(({ number, made, person, action, facts }) => (
        <li key={number}>
          <strong>{plain(action)}</strong> {person && <span class="muted">by {person}</span>}
          <br />
          <time class="muted" dateTime={made}>
            {moment(made)}
          </time>
          <Facts facts={facts} />
        </li>
      ))}
    </ol>
  );
}

const TELLING = ["tool", "verdict", "structure", "reason", "revision", "signature", "name"];

function Facts({ facts }: { facts: unknown }) {
  const known = typeof facts === "object" && facts !== null ? (facts as Record<string, unknown>) : {};
  const told = TELLING.filter((name) => known[name] !== undefined && known[name] !== null && known[name] !== "");
  if (told.length === 0) return null;
  return <span class="muted"> · {told.map((name) => `${name} ${String(known[name])}`).join(", ")}</span>;
}

function Measurements({ desk }: { desk: CaseDesk }) {
  const measurements = useStore(desk.store, (state) => state.measurements);
  if (measurements.length === 0) {
    return (
      <p class="muted">
        Nothing measured yet. Choose Distance <kbd>m</kbd> or Intensity <kbd>i</kbd> and draw on a picture.
      </p>
    );
  }
  return (
    <div class="stack">
      <ul class="finding-list">
        {measurements.map(({ id, text, from, kind }) => (
          <li key={id} class="row">
            <button type="button" class="button quiet finding" onClick={() => desk.jump(from)}>
              {text}
            </button>
            <button
              type="button"
              class="button quiet small spread"
              aria-label={`Remove this ${kind}: ${text}`}
              onClick={() => desk.view.removeMeasurement(id)}
            >
              Remove
            </button>
          </li>
        ))}
      </ul>
      <button type="button" class="button" onClick={() => desk.view.clearMeasurements()}>
        Remove all
      </button>
    </div>
  );
}
