import { useEffect, useState } from "preact/hooks";

import { filters, worklist, type SessionPerson, type WorklistQuery } from "../../api";
import { isTaken } from "../keys";
import { useLoaded } from "../load";
import { Empty, Problem } from "../parts";
import { caseAddress, worklistAddress } from "../route";
import { FilterBar, Pager, StateTabs } from "./Controls";
import { nextCase } from "./next";
import { addressOf, EVERYTHING, isFiltered, PAGE_SIZE, queryOf } from "./query";
import { Suggestions } from "./Suggestions";
import { Table } from "./Table";

const REFRESH_MS = 60_000;

export function WorklistPage({ address, person }: { address: string; person: SessionPerson }) {
  const query = queryOf(address);
  const list = useLoaded((signal) => worklist(query, signal), addressOf(query));
  const choices = useLoaded(() => filters());
  const next = useNext(person.name, query);
  const setQuery = (wanted: WorklistQuery) => {
    location.hash = worklistAddress(addressOf(wanted));
  };
  useKeys({ query, total: list.value?.total ?? 0, setQuery, next: next.go });
  useEffect(() => {
    // Others take and decide cases meanwhile.
    const timer = setInterval(() => {
      if (!document.hidden) list.reload();
    }, REFRESH_MS);
    return () => clearInterval(timer);
  }, [list.reload]);
  const rows = list.value?.cases;
  return (
    <main class="page stack" id="main">
      <div class="row">
        <h1>Worklist</h1>
        <span class="muted">What most needs eyes comes first.</span>
        {person.role !== "viewer" && (
          <button type="button" class="button primary spread" onClick={next.go} aria-disabled={next.busy}>
            Next case <kbd>n</kbd>
          </button>
        )}
      </div>
      {next.note && (
        <p class="notice" role="status">
          {next.note}
        </p>
      )}
      <StateTabs query={query} onQuery={setQuery} byState={list.value?.byState ?? null} />
      <FilterBar query={query} onQuery={setQuery} filters={choices.value} />
      {list.problem && <Problem problem={list.problem} retry={list.reload} />}
      {!rows && list.loading && <p role="status">Loading the worklist…</p>}
      {rows?.length === 0 && <NoCases query={query} onQuery={setQuery} />}
      {rows && rows.length > 0 && (
        <>
          <Table rows={rows} order={query.order} onOrder={(order) => setQuery({ ...query, order, offset: 0 })} />
          <Pager query={query} onQuery={setQuery} total={list.value?.total ?? 0} />
        </>
      )}
      {person.role !== "viewer" && <Suggestions />}
    </main>
  );
}

function NoCases({ query, onQuery }: { query: WorklistQuery; onQuery(query: WorklistQuery): void }) {
  if (query.offset > 0) {
    return (
      <Empty title="This page of the list is empty">
        <p>
          <button type="button" class="button" onClick={() => onQuery({ ...query, offset: 0 })}>
            To the first page
          </button>
        </p>
      </Empty>
    );
  }
  if (isFiltered(query)) {
    return (
      <Empty title="No case matches these filters">
        <p>
          <button type="button" class="button" onClick={() => onQuery(EVERYTHING)}>
            Clear filters
          </button>
        </p>
      </Empty>
    );
  }
  return (
    <Empty title="There are no cases yet">
      <p>
        Segment scans with <kbd>delineate predict MODEL SCANS RESULTS</kbd>, then start{" "}
        <kbd>delineate review SCANS RESULTS</kbd>. If you expected cases here, ask an administrator which collections
        you may see.
      </p>
    </Empty>
  );
}

function useNext(name: string, query: WorklistQuery) {
  const [busy, setBusy] = useState(false);
  const [note, setNote] = useState("");
  const go = async () => {
    if (busy) return;
    setBusy(true);
    setNote("");
    try {
      const key = await nextCase(name, "", query);
      if (key !== null) location.hash = caseAddress(key);
      else setNote(isFiltered(query) ? "No free case matches these filters." : "No case is left that nobody has taken.");
    } catch (problem) {
      setNote(problem instanceof Error ? problem.message : String(problem));
    } finally {
      setBusy(false);
    }
  };
  return { go, busy, note };
}

interface KeyTargets {
  query: WorklistQuery;
  total: number;
  setQuery(query: WorklistQuery): void;
  next(): void;
}

/** j and k: down and up; n: next case; [ and ]: pages; /: search. Enter on a row's link is the browser's own. */
function useKeys({ query, total, setQuery, next }: KeyTargets): void {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (isTaken(event)) return;
      const page = (offset: number) => {
        if (offset >= 0 && offset < total) setQuery({ ...query, offset });
      };
      if (event.key === "j") moveFocus(1);
      else if (event.key === "k") moveFocus(-1);
      else if (event.key === "n") next();
      else if (event.key === "[") page(query.offset - PAGE_SIZE);
      else if (event.key === "]") page(query.offset + PAGE_SIZE);
      else if (event.key === "/") document.getElementById("search")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
}

function moveFocus(step: number): void {
  const links = [...document.querySelectorAll<HTMLAnchorElement>(".worklist .case-link")];
  const now = links.findIndex((link) => link === document.activeElement);
  const wanted = now < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(now + step, 0), links.length - 1);
  links[wanted]?.focus();
}
