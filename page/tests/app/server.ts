import { vi } from "vitest";

export interface Call {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: unknown;
}

type Answer = { status: number; json?: unknown };

/** Stands for the server: answers every call by `answer`, and keeps what was asked. */
export function serveWith(answer: (call: Call) => Answer | Error): Call[] {
  const calls: Call[] = [];
  vi.stubGlobal("fetch", async (path: string, init: RequestInit): Promise<Response> => {
    const body = typeof init.body === "string" ? (JSON.parse(init.body) as unknown) : (init.body ?? null);
    const call = { method: init.method ?? "GET", path, headers: init.headers as Record<string, string>, body };
    calls.push(call);
    const said = answer(call);
    if (said instanceof Error) throw said;
    const text = said.json === undefined ? null : JSON.stringify(said.json);
    return new Response(said.status === 204 ? null : text, { status: said.status });
  });
  return calls;
}
