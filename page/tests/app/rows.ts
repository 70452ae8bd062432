import type { CaseRow } from "../../src/api";

/** A row that says as little as a row can. */
export function rowOf(key: string, change: Partial<CaseRow> = {}): CaseRow {
  return {
    key,
    collection: "abdomen",
    pseudonym: `P-${key}`,
    patientName: null,
    model: "spleen",
    date: "20240131",
    site: "North",
    scanner: "",
    structures: [{ value: 1, name: "spleen", colour: [200, 80, 40], volumeMl: 212.4, agreement: null }],
    warnings: [],
    priority: 1,
    reasons: [],
    state: "unreviewed",
    revision: 0,
    reader: null,
    secondReader: null,
    seconds: 0,
    ...change,
  };
}
