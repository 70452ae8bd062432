/** What the server sends and takes as JSON. Times are ISO 8601 in UTC; indices are (i, j, k). */

import type { Geometry, Structure, Triple } from "./contract";

export type Role = "viewer" | "reviewer" | "admin";

export type State =
  | "unreviewed"
  | "in_review"
  | "escalated"
  | "awaiting_second"
  | "approved"
  | "approved_with_edits"
  | "rejected";

export type Verdict = "approve" | "reject" | "escalate";

export interface SessionPerson {
  name: string;
  fullName: string;
  role: Role;
  seesNames: boolean;
}

/**
 * `local`: the server runs on this machine for its user only; there are no passwords then. `idleSeconds`: without a
 * touch, after which the session ends; null for never.
 */
export interface Session {
  person: SessionPerson;
  csrf: string;
  local: boolean;
  version: string;
  idleSeconds: number | null;
}

export interface CaseStructure extends Structure {
  volumeMl: number;
  agreement: number | null;
}

export interface CaseRow {
  key: string;
  collection: string;
  pseudonym: string;
  /** Only for those who may see it. */
  patientName?: string | null;
  model: string;
  date: string;
  site: string;
  scanner: string;
  structures: CaseStructure[];
  warnings: string[];
  priority: number;
  reasons: string[];
  state: State;
  revision: number;
  reader: string | null;
  secondReader: string | null;
  seconds: number;
}

export interface Worklist {
  total: number;
  byState: Partial<Record<State, number>>;
  cases: CaseRow[];
}

/** What to list; "" and empty mean all. `order`: a column, "-" before it for descending. */
export interface WorklistQuery {
  states: readonly State[];
  structure: string;
  model: string;
  site: string;
  reader: string;
  search: string;
  order: string;
  offset: number;
  limit: number;
}

export interface Filters {
  structures: string[];
  models: string[];
  sites: string[];
  readers: string[];
  collections: string[];
}

export interface DecisionRecord {
  person: string;
  signature: string;
  verdict: Verdict;
  revision: number;
  seen: string;
  made: string;
  structure: number | null;
  reason: string;
  second: boolean;
}

export interface Present {
  name: string;
  lastSeen: string;
}

export interface WindowPreset {
  name: string;
  lower: number;
  upper: number;
}

export interface CaseDetail extends CaseRow {
  geometry: Geometry;
  image: { kind: string; slope: number; intercept: number; windows: WindowPreset[]; unit: string };
  layers: number[];
  labelType: "uint8" | "uint16";
  hasReference: boolean;
  /** Digest of scan and labels at `revision`: what a signature is about. */
  seen: string;
  /** Digest of the scan's files alone. */
  scan: string;
  decisions: DecisionRecord[];
  present: Present[];
  editable: boolean;
  canUndo: boolean;
  canRedo: boolean;
  formats: FormatChoice[];
  /** Why nothing can be exported now; null where `formats` say what can. */
  exportProblem: string | null;
  /** Whether a promptable model is there that was made for such scans. */
  promptable: boolean;
}

/** `problem`: why the case cannot be exported in this format; null where it can. */
export interface FormatChoice {
  format: ExportFormat;
  problem: string | null;
}

export interface CaseFinding {
  structure: string;
  quantity: string;
  value: number;
  unit: string;
  text: string;
  index: Triple | null;
}

export interface CaseFindings {
  findings: CaseFinding[];
  lesions: CaseFinding[];
}

/** `runs`: packed runs in base64. */
export interface NewEdit {
  baseRevision: number;
  layer: number;
  tool: string;
  parameters: Record<string, unknown>;
  runs: string;
}

export interface EditOfCase {
  revision: number;
  person: string;
  tool: string;
  made: string;
  layer: number;
  undoes: number | null;
  runs: string;
}

export interface EditResult {
  revision: number;
  layer: number;
  runs: string;
  canUndo: boolean;
  canRedo: boolean;
}

export interface ToolRequest {
  baseRevision: number;
  layer: number;
  structure: number;
  parameters: Record<string, unknown>;
}

export type ToolResult = EditResult & { note: string | null };

export interface ProposalRequest {
  baseRevision: number;
  structure: number;
  layer: number;
  points: { index: Triple; positive: boolean }[];
  box: { start: Triple; stop: Triple } | null;
  scribbles: { indices: Triple[]; positive: boolean }[];
  method: "auto" | "geodesic" | "random_walker" | "model";
}

export interface Proposal {
  runs: string;
  seconds: number;
  method: string;
  revision: number;
}

export interface NewDecision {
  verdict: Verdict;
  structure: number | null;
  reason: string;
  revision: number;
  seen: string;
  signature: string;
  password?: string;
}

export interface AuditEvent {
  number: number;
  made: string;
  person: string;
  action: string;
  facts: unknown;
  case?: string;
}

/** `total`: how many events the whole trail has, where the server tells it. */
export interface AuditPage {
  events: AuditEvent[];
  total?: number | null;
}

export type ExportFormat = "seg" | "rtstruct" | "sr" | "glb" | "stl" | "nifti" | "report";

export interface ExportedFile {
  name: string;
  format: string;
  bytes: number;
}

export interface Suggestion {
  key: string;
  reason: string;
  score: number;
}

export interface Account {
  name: string;
  fullName: string;
  role: Role;
  seesNames: boolean;
  /** Whose cases they may see, null for all. */
  collections: string[] | null;
  active: boolean;
}

export interface NewAccount extends Omit<Account, "active"> {
  password: string;
}

/** Only what is to change. */
export interface AccountChange {
  fullName?: string;
  role?: Role;
  seesNames?: boolean;
  collections?: string[] | null;
  active?: boolean;
  password?: string;
}

export interface Verification {
  problems: string[];
  events: number;
}

// The dashboard. Shares come with Wilson's 95 % interval; null where there is nothing to count.

export interface Share {
  count: number;
  of: number;
  value: number | null;
  lower: number | null;
  upper: number | null;
}

/** The median and the quartiles of `count` values. */
export interface Spread {
  count: number;
  median: number | null;
  lower: number | null;
  upper: number | null;
}

/** Decided cases of one model, site, structure or reader. `dice`: model against accepted; `between`: two readers. */
export interface Group {
  name: string;
  cases: number;
  unedited: Share;
  rejected: number;
  escalated: number;
  seconds: Spread;
  edits: Spread;
  dice: Spread;
  between: Spread;
  reasons: { reason: string; count: number }[];
}

export interface Dashboard {
  total: Group;
  models: Group[];
  sites: Group[];
  structures: Group[];
  readers: Group[];
  pairs: { first: string; second: string; cases: number; dice: Spread }[];
  /** Decided cases whose voxels have not been compared yet. */
  pending: number;
}
