/** Every route of the server as a typed function. What fails is thrown as ApiError. */

import { getBytes, getJson, queryOf, sendJson, setSession } from "./http";
import type { Bytes } from "./http";
import type * as wire from "./wire";

export { ApiError, onSessionEnd } from "./http";
export type { Bytes } from "./http";
export type * from "./wire";

const at = (key: string): string => `/cases/${encodeURIComponent(key)}`;

// Who is here

async function began(session: wire.Session): Promise<wire.Session> {
  setSession(session);
  return session;
}

export async function session(): Promise<wire.Session> {
  return began(await getJson<wire.Session>("/session"));
}

export async function signIn(name: string, password: string): Promise<wire.Session> {
  return began(await sendJson<wire.Session>("POST", "/session", { body: { name, password } }));
}

export async function signInWithToken(token: string): Promise<wire.Session> {
  return began(await sendJson<wire.Session>("POST", "/session", { body: { token } }));
}

export async function signOut(): Promise<void> {
  await sendJson<null>("DELETE", "/session");
  setSession(null);
}

// The worklist

export function worklist(query: wire.WorklistQuery, signal?: AbortSignal): Promise<wire.Worklist> {
  const { states, ...others } = query;
  return getJson(`/cases${queryOf({ state: states, ...others })}`, signal);
}

export function filters(): Promise<wire.Filters> {
  return getJson("/filters");
}

export async function suggestions(count: number): Promise<wire.Suggestion[]> {
  return (await getJson<{ cases: wire.Suggestion[] }>(`/suggestions${queryOf({ count })}`)).cases;
}

export function dashboard(): Promise<wire.Dashboard> {
  return getJson("/dashboard");
}

// A case and its voxels (i fastest; slices from <= k < to)

export function caseDetail(key: string): Promise<wire.CaseDetail> {
  return getJson(at(key));
}

export function imageSlab(key: string, from: number, to: number, signal?: AbortSignal): Promise<Bytes> {
  return getBytes(`${at(key)}/image${queryOf({ from, to })}`, signal);
}

export interface LabelSlab {
  from: number;
  to: number;
  layer: number;
  /** The head if not given. */
  revision?: number;
}

export function labelSlab(key: string, slab: LabelSlab, signal?: AbortSignal): Promise<Bytes> {
  return getBytes(`${at(key)}/labels${queryOf({ ...slab })}`, signal);
}

/** The model's own result, whatever has been edited since. */
export function modelSlab(key: string, slab: LabelSlab, signal?: AbortSignal): Promise<Bytes> {
  const { from, to, layer } = slab;
  return getBytes(`${at(key)}/model${queryOf({ from, to, layer })}`, signal);
}

export function referenceSlab(key: string, slab: LabelSlab, signal?: AbortSignal): Promise<Bytes> {
  const { from, to, layer } = slab;
  return getBytes(`${at(key)}/reference${queryOf({ from, to, layer })}`, signal);
}

/** A structure's surface as MZ3, vertices in RAS mm. */
export async function surface(key: string, value: number, signal?: AbortSignal): Promise<ArrayBuffer> {
  return (await getBytes(`${at(key)}/surface/${value}`, signal)).bytes;
}

export function findings(key: string): Promise<wire.CaseFindings> {
  return getJson(`${at(key)}/findings`);
}

export async function history(key: string): Promise<wire.AuditEvent[]> {
  return (await getJson<{ events: wire.AuditEvent[] }>(`${at(key)}/history`)).events;
}

// Correcting

export function addEdit(key: string, edit: wire.NewEdit): Promise<{ revision: number; digest: string }> {
  return sendJson("POST", `${at(key)}/edits`, { body: edit });
}

/** The edits after a revision as far as one answer goes; `more`: whether there are others after these. */
export function editsAfter(key: string, after: number): Promise<{ edits: wire.EditOfCase[]; more: boolean }> {
  return getJson(`${at(key)}/edits${queryOf({ after })}`);
}

export function undo(key: string, baseRevision: number): Promise<wire.EditResult> {
  return sendJson("POST", `${at(key)}/undo`, { body: { baseRevision } });
}

export function redo(key: string, baseRevision: number): Promise<wire.EditResult> {
  return sendJson("POST", `${at(key)}/redo`, { body: { baseRevision } });
}

export function runTool(key: string, tool: string, request: wire.ToolRequest): Promise<wire.ToolResult> {
  return sendJson("POST", `${at(key)}/tools/${encodeURIComponent(tool)}`, { body: request });
}

/** A proposed change; nothing is stored before it is sent back as an edit. */
export function propose(key: string, request: wire.ProposalRequest, signal?: AbortSignal): Promise<wire.Proposal> {
  return sendJson("POST", `${at(key)}/proposals`, { body: request, signal });
}

/** A corrected mask (.nii.gz on the case's grid) as a new revision. */
export function upload(key: string, file: File, baseRevision: number): Promise<{ revision: number }> {
  const form = new FormData();
  form.append("file", file);
  form.append("baseRevision", String(baseRevision));
  return sendJson("POST", `${at(key)}/uploads`, { form });
}

/** Says that this person looks at the case, and for how many seconds since the last beat. */
export function beat(key: string, seconds: number): Promise<{ present: wire.Present[]; revision: number }> {
  return sendJson("POST", `${at(key)}/presence`, { body: { seconds } });
}

export async function leave(key: string): Promise<void> {
  await sendJson<null>("DELETE", `${at(key)}/presence`, { keepalive: true });
}

// Deciding

export function decide(
  key: string,
  decision: wire.NewDecision,
): Promise<{ state: wire.State; decision: wire.DecisionRecord }> {
  return sendJson("POST", `${at(key)}/decisions`, { body: decision });
}

export function reopen(key: string, reason: string): Promise<{ state: wire.State }> {
  return sendJson("POST", `${at(key)}/reopen`, { body: { reason } });
}

export function askSecond(key: string, name: string): Promise<{ state: wire.State }> {
  return sendJson("POST", `${at(key)}/second`, { body: { name } });
}

export async function exportCase(key: string, formats: readonly wire.ExportFormat[]): Promise<wire.ExportedFile[]> {
  return (await sendJson<{ files: wire.ExportedFile[] }>("POST", `${at(key)}/exports`, { body: { formats } })).files;
}

/** What was exported of a case as it is approved now. */
export async function exportedFiles(key: string): Promise<wire.ExportedFile[]> {
  return (await getJson<{ files: wire.ExportedFile[] }>(`${at(key)}/exports`)).files;
}

/** Where a link to an exported file points. */
export function exportUrl(key: string, name: string): string {
  return `/api${at(key)}/exports/${encodeURIComponent(name)}`;
}

// People and the audit trail (admins)

export async function people(): Promise<wire.Account[]> {
  return (await getJson<{ people: wire.Account[] }>("/people")).people;
}

export function addPerson(account: wire.NewAccount): Promise<wire.Account> {
  return sendJson("POST", "/people", { body: account });
}

export function changePerson(name: string, change: wire.AccountChange): Promise<wire.Account> {
  return sendJson("PATCH", `/people/${encodeURIComponent(name)}`, { body: change });
}

export function auditEvents(after: number, limit: number, signal?: AbortSignal): Promise<wire.AuditPage> {
  return getJson(`/audit${queryOf({ after, limit })}`, signal);
}

export function verifyAudit(): Promise<wire.Verification> {
  return getJson("/audit/verify");
}

export const AUDIT_EXPORT_URL = "/api/audit/export";

// Bytes in JSON

export function toBase64(bytes: Uint8Array): string {
  let text = "";
  // In pieces: the arguments of one call are limited.
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
