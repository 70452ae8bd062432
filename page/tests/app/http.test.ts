import { afterEach, expect, it, vi } from "vitest";

import * as api from "../../src/api";
import { queryOf } from "../../src/http";
import { EVERYTHING } from "../../src/app/worklist/query";
import { serveWith } from "./server";

afterEach(() => vi.unstubAllGlobals());

const SESSION = { person: { name: "ada", fullName: "Ada L", role: "admin", seesNames: true }, csrf: "c7", local: false };

it("sends the token of the session with what changes something, and only then", async () => {
  const calls = serveWith(({ path }) => ({ status: 200, json: path === "/api/session" ? SESSION : { cases: [] } }));
  await api.session();
  await api.worklist(EVERYTHING);
  await api.reopen("p1", "wrong side");
  expect(calls[1]?.headers).not.toHaveProperty("X-CSRF-Token");
  expect(calls[2]?.headers).toMatchObject({ "X-CSRF-Token": "c7", "Content-Type": "application/json" });
  expect(calls[2]?.body).toEqual({ reason: "wrong side" });
});

it("keeps keys in one part of the address, whatever they are made of", async () => {
  const calls = serveWith(() => ({ status: 200, json: {} }));
  await api.caseDetail("a/../b ?#%2e");
  expect(calls[0]?.path).toBe("/api/cases/a%2F..%2Fb%20%3F%23%252e");
  expect(api.exportUrl("p/1", "p 1.dcm")).toBe("/api/cases/p%2F1/exports/p%201.dcm");
});

it("says the server's own words, and the head of a case that somebody else changed", async () => {
  serveWith(() => ({ status: 409, json: { problem: "Bo drew meanwhile.", remedy: "Look again.", revision: 12 } }));
  const problem = await api.undo("p1", 11).catch((caught: unknown) => caught);
  expect(problem).toBeInstanceOf(api.ApiError);
  expect(problem).toMatchObject({ status: 409, problem: "Bo drew meanwhile.", remedy: "Look again.", revision: 12 });
  expect(problem).toMatchObject({ transient: false, message: "Bo drew meanwhile. Look again." });
});

it("says in plain words what a server without words meant, and that one does not answer", async () => {
  serveWith(() => ({ status: 413 }));
  await expect(api.filters()).rejects.toMatchObject({ status: 413, problem: "This is too large.", remedy: null });
  serveWith(() => new TypeError("Failed to fetch"));
  await expect(api.filters()).rejects.toMatchObject({ status: 0, transient: true });
});

it("tells when a session has ended, but not that nobody has signed in yet", async () => {
  const ended = vi.fn();
  api.onSessionEnd(ended);
  serveWith(() => ({ status: 401, json: { problem: "No session.", remedy: null } }));
  await expect(api.session()).rejects.toMatchObject({ status: 401 });
  expect(ended).not.toHaveBeenCalled();
  await expect(api.people()).rejects.toMatchObject({ status: 401 });
  expect(ended).toHaveBeenCalledOnce();
});

it("goes on in the session that its person began in another window, and never in somebody else's", async () => {
  const ended = vi.fn();
  api.onSessionEnd(ended);
  let now = SESSION;
  const calls = serveWith(({ path, headers }) => {
    if (path === "/api/session") return { status: 200, json: now };
    return headers["X-CSRF-Token"] === now.csrf ? { status: 200, json: {} } : { status: 403, json: {} };
  });
  await api.session();
  now = { ...SESSION, csrf: "c8" };
  await api.reopen("p1", "wrong side");
  expect(calls.map(({ path }) => path.split("/").at(-1))).toEqual(["session", "reopen", "session", "reopen"]);
  now = { ...SESSION, csrf: "c9", person: { ...SESSION.person, name: "bo" } };
  await expect(api.reopen("p1", "wrong side")).rejects.toMatchObject({ status: 401 });
  expect([calls.length, ended.mock.calls.length]).toEqual([6, 1]);
});

it("leaves out of an address what is empty, and repeats names of lists", () => {
  expect(queryOf({ state: ["a", "b"], site: "", from: 0, revision: undefined })).toBe("?state=a&state=b&from=0");
  expect(queryOf({ site: "" })).toBe("");
});

it("takes bytes there and back, also more than a call has arguments", () => {
  const bytes = Uint8Array.from({ length: 200_001 }, (_, place) => (place * 7) % 256);
  expect(Buffer.compare(api.fromBase64(api.toBase64(bytes)), bytes)).toBe(0);
  expect(api.toBase64(new Uint8Array())).toBe("");
});
