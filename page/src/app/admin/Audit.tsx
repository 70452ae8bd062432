import { useState } from "preact/hooks";

import { AUDIT_EXPORT_URL, auditEvents, verifyAudit, type ApiError, type AuditEvent, type Verification } from "../../api";
import { asApiError, useLoaded } from "../load";
import { Empty, Problem, TableRegion } from "../parts";
import { caseAddress } from "../route";
import { count, counted, moment, plain } from "../words";
import { factsText } from "./facts";

const SIZE = 100;

export function AuditPage() {
  const [after, setAfter] = useState(0);
  const { value, problem, loading, reload } = useLoaded((signal) => auditEvents(after, SIZE, signal), String(after));
  const total = value?.total ?? null;
  return (
    <main class="page stack" id="main">
      <div class="row">
        <h1>Audit trail</h1>
        <span class="muted">Every event holds the digest of the one before it; nothing is ever changed or removed.</span>
        <a class="button spread" href={AUDIT_EXPORT_URL} download="audit.jsonl">
          Export (JSON lines)
        </a>
      </div>
      <Verify />
      {problem && <Problem problem={problem} retry={reload} />}
      {!value && loading && <p role="status">Loading…</p>}
      {value && value.events.length === 0 && (
        <Empty title={after === 0 ? "Nothing has happened yet" : "There are no later events"}>
          <p>Signing in, edits, decisions and exports show here.</p>
        </Empty>
      )}
      {value && value.events.length > 0 && <Events events={value.events} />}
      <nav class="row" aria-label="Pages of the audit trail">
        <Step to={0} now={after} onStep={setAfter}>
          First
        </Step>
        <Step to={Math.max(0, after - SIZE)} now={after} onStep={setAfter}>
          Earlier
        </Step>
        <Step to={value?.events.length === SIZE ? after + SIZE : after} now={after} onStep={setAfter}>
          Later
        </Step>
        {total !== null && (
          <Step to={Math.max(0, total - SIZE)} now={after} onStep={setAfter}>
            Latest
          </Step>
        )}
        {total !== null && <span class="muted">{counted(total, "event")} in all</span>}
      </nav>
    </main>
  );
}

function Step(props: { to: number; now: number; onStep(after: number): void; children: string }) {
  return (
    <button type="button" class="button" disabled={props.to === props.now} onClick={() => props.onStep(props.to)}>
      {props.children}
    </button>
  );
}

function Verify() {
  const [found, setFound] = useState<Verification | null>(null);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const verify = async () => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      setFound(await verifyAudit());
    } catch (caught) {
      setProblem(asApiError(caught));
    } finally {
      setBusy(false);
    }
  };
  return (
    <section class="stack" aria-label="Verification">
      <div class="row">
        <button type="button" class="button" onClick={verify} aria-disabled={busy}>
          {busy ? "Verifying…" : "Verify everything"}
        </button>
        <span class="muted">Compares the chain, all edits and decisions with their digests.</span>
      </div>
      <div aria-live="polite">
        {found?.problems.length === 0 && (
          <p class="notice good">All {count(found.events)} events and what they speak of are as they were written.</p>
        )}
        {found && found.problems.length > 0 && <Broken found={found} />}
      </div>
      {problem && <Problem problem={problem} retry={verify} />}
    </section>
  );
}

function Broken({ found }: { found: Verification }) {
  return (
    <div class="notice bad">
      <p>
        <strong>Something was changed after it was written.</strong> Keep this database as it is, and compare it with an
        exported trail or a backup from before.
      </p>
      <ul>
        {found.problems.map((each) => (
          <li key={each}>{each}</li>
        ))}
      </ul>
    </div>
  );
}

function Events({ events }: { events: readonly AuditEvent[] }) {
  return (
    <TableRegion label="Events">
      <table class="table">
        <thead>
          <tr>
            <th scope="col" class="number">
              Number
            </th>
            <th scope="col">Time</th>
            <th scope="col">Person</th>
            <th scope="col">What</th>
            <th scope="col">Case</th>
            <th scope="col">Facts</th>
          </tr>
        </thead>
        <tbody>
          {events.map((event) => (
            <tr key={event.number}>
              <td class="number">{event.number}</td>
              <td class="nowrap">{moment(event.made)}</td>
              <td>{event.person || <span class="muted">the server</span>}</td>
              <td class="nowrap">{plain(event.action)}</td>
              <td class="key">{event.case && <a href={caseAddress(event.case)}>{event.case}</a>}</td>
              <td class="facts">{factsText(event.facts)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableRegion>
  );
}
