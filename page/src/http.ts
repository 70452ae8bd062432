/** Calls to this page's own server: sessions, errors as sentences, and bytes. */

import { idleSeconds } from "./idle";

/** What went wrong, said for people. `status` 0: the server did not answer. `revision`: the head, when 409. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problem: string,
    readonly remedy: string | null = null,
    readonly revision: number | null = null,
  ) {
    super(remedy ? `${problem} ${remedy}` : problem);
    this.name = "ApiError";
  }

  /** The server could not be reached, or was not able to answer now: worth trying again. */
  get transient(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 502;
  }
}

export interface Bytes {
  bytes: ArrayBuffer;
  /** From X-Revision, where the server tells it. */
  revision: number | null;
}

type Method = "GET" | "POST" | "PATCH" | "DELETE";

/** Whose session this page works in. */
let csrf = "";
let person = "";
let ended: () => void = () => {};

export function setSession(session: { csrf: string; person: { name: string } } | null): void {
  csrf = session?.csrf ?? "";
  person = session?.person.name ?? "";
}

/** Says who is told when the server no longer knows the session. */
export function onSessionEnd(listener: () => void): void {
  ended = listener;
}

export interface CallOptions {
  body?: unknown;
  form?: FormData;
  signal?: AbortSignal | undefined;
  /** Lets a request outlive the page, for the last heartbeat. */
  keepalive?: boolean;
}

async function call(method: Method, path: string, options: CallOptions = {}): Promise<Response> {
  let response = await sent(method, path, options);
  if (response.status === 403 && method !== "GET" && path !== "/session" && (await renewed())) {
    response = await sent(method, path, options);
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== "/session") ended();
  throw await errorOf(response);
}

async function sent(method: Method, path: string, options: CallOptions): Promise<Response> {
  const headers: Record<string, string> = { "X-Idle-Seconds": String(idleSeconds()) };
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(`/api${path}`, {
      method,
      headers,
      body: options.form ?? (options.body === undefined ? null : JSON.stringify(options.body)),
      credentials: "same-origin",
      cache: "no-store",
      signal: options.signal ?? null,
      keepalive: options.keepalive ?? false,
    });
  } catch (problem) {
    if (problem instanceof DOMException && problem.name === "AbortError") throw problem;
    throw new ApiError(0, "The server does not answer.", "See whether delineate review still runs, then try again.");
  }
}

/**
 * Whether the person of this page has signed in anew in another window, which this one then goes on with. Throws an
 * ApiError where somebody else has: nothing is stored in their name.
 */
async function renewed(): Promise<boolean> {
  const response = await sent("GET", "/session", {});
  if (!response.ok) return false;
  const session = (await response.json()) as { csrf: string; person: { name: string } };
  if (session.csrf === csrf) return false;
  if (session.person.name !== person) {
    ended();
    throw new ApiError(401, "Somebody else has signed in in another window.", "Sign in again to go on here.");
  }
  csrf = session.csrf;
  return true;
}

/** The server's own words where it sent some, else plain ones for the status. */
export async function errorOf(response: Response): Promise<ApiError> {
  let said: unknown = null;
  try {
    said = await response.json();
  } catch {
    // An error without JSON comes from something between; its status says enough.
  }
  const facts = typeof said === "object" && said !== null ? (said as Record<string, unknown>) : {};
  const problem = typeof facts["problem"] === "string" ? facts["problem"] : plainProblem(response.status);
  const remedy = typeof facts["remedy"] === "string" ? facts["remedy"] : null;
  const revision = typeof facts["revision"] === "number" ? facts["revision"] : null;
  return new ApiError(response.status, problem, remedy, revision);
}

function plainProblem(status: number): string {
  if (status === 401) return "You are not signed in.";
  if (status === 403) return "You may not do this.";
  if (status === 404) return "This does not exist, or you may not see it.";
  if (status === 409) return "Somebody else changed this meanwhile.";
  if (status === 413) return "This is too large.";
  if (status === 422) return "The server did not understand what was asked.";
  if (status === 429) return "Too many attempts; wait a moment.";
  return `The server failed (${status}).`;
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await call("GET", path, { signal })).json()) as T;
}

export async function sendJson<T>(method: Method, path: string, options: CallOptions = {}): Promise<T> {
  const response = await call(method, path, options);
  const text = await response.text();
  return (text === "" ? null : JSON.parse(text)) as T;
}

export async function getBytes(path: string, signal?: AbortSignal): Promise<Bytes> {
  const response = await call("GET", path, { signal });
  const revision = response.headers.get("X-Revision");
  return { bytes: await response.arrayBuffer(), revision: revision === null ? null : Number(revision) };
}

/** "?a=1&b=2" of what is not empty; lists repeat their name. */
export function queryOf(values: Record<string, string | number | undefined | readonly string[]>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) query.append(name, String(one));
  }
  const text = query.toString();
  return text === "" ? "" : `?${text}`;
}
