// @vitest-environment happy-dom
import { render } from "preact";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { App } from "../../src/app/App";
import { rowOf } from "./rows";
import { serveWith, type Call } from "./server";

const PERSON = { name: "ada", fullName: "Ada Lovelace", role: "admin", seesNames: true };
const SESSION = { person: PERSON, csrf: "c", local: false, version: "0.1.0" };
const ROWS = [rowOf("hot", { warnings: ["Touches the edge of the scan."], priority: 9 }), rowOf("cool")];

function answers(call: Call): { status: number; json: unknown } {
  const path = call.path.split("?")[0];
  if (path === "/api/session") return { status: 200, json: SESSION };
  if (path === "/api/filters") {
    return { status: 200, json: { structures: ["spleen"], models: ["spleen"], sites: [], readers: [], collections: [] } };
  }
  if (path === "/api/audit/verify") return { status: 200, json: { problems: ["Event 2 was changed."], events: 3 } };
  if (path === "/api/audit") return { status: 200, json: { events: [], total: 0 } };
  const cases = call.path.includes("search=nobody") ? [] : ROWS;
  return { status: 200, json: { total: cases.length, byState: { unreviewed: cases.length }, cases } };
}

let host: HTMLElement;

async function open(address: string): Promise<void> {
  location.hash = address;
  render(<App />, host);
}

const text = () => host.textContent ?? "";
const press = (key: string) => window.dispatchEvent(new KeyboardEvent("keydown", { key }));

beforeEach(() => {
  host = document.body.appendChild(document.createElement("div"));
});

afterEach(() => {
  render(null, host);
  host.remove();
  vi.unstubAllGlobals();
});

it("lists cases with their warnings and what leads to them", async () => {
  serveWith(answers);
  await open("#/");
  await vi.waitFor(() => expect(text()).toContain("Touches the edge of the scan."));
  expect([...host.querySelectorAll(".case-link")].map((link) => link.getAttribute("href"))).toEqual([
    "#/case/hot",
    "#/case/cool",
  ]);
  expect(text()).toContain("1–2 of 2");
});

it("goes through rows by j and k and to the next case by n", async () => {
  serveWith(answers);
  await open("#/");
  await vi.waitFor(() => expect(host.querySelectorAll(".case-link")).toHaveLength(2));
  press("j");
  press("j");
  expect(document.activeElement?.getAttribute("href")).toBe("#/case/cool");
  press("k");
  expect(document.activeElement?.getAttribute("href")).toBe("#/case/hot");
  press("n");
  await vi.waitFor(() => expect(location.hash).toBe("#/case/hot"));
});

it("asks for what the address says, and offers a way out where nothing is found", async () => {
  const calls = serveWith(answers);
  await open("#/?search=nobody&state=rejected&order=site");
  await vi.waitFor(() => expect(text()).toContain("No case matches these filters"));
  expect(calls.some(({ path }) => /state=rejected.*search=nobody.*order=site&offset=0&limit=50/.test(path))).toBe(true);
  [...host.querySelectorAll("button")].find((button) => button.textContent === "Clear filters")?.click();
  await vi.waitFor(() => expect(text()).toContain("1–2 of 2"));
});

it("asks who is there before anything else, and says what the server says about a wrong password", async () => {
  const calls = serveWith(({ method }) =>
    method === "GET"
      ? { status: 401, json: { problem: "Not signed in.", remedy: null } }
      : { status: 401, json: { problem: "Name or password is wrong.", remedy: null } },
  );
  await open("#/");
  await vi.waitFor(() => expect(host.querySelector("form")).not.toBeNull());
  expect(calls.map(({ path }) => path)).toEqual(["/api/session"]);
  host.querySelector<HTMLInputElement>("input[name=name]")!.value = " ada ";
  host.querySelector<HTMLInputElement>("input[name=password]")!.value = "wrong one";
  host.querySelector("form")!.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
  await vi.waitFor(() => expect(host.querySelector("[role=alert]")?.textContent).toContain("Name or password is wrong."));
  expect(calls.at(-1)?.body).toEqual({ name: "ada", password: "wrong one" });
  expect(host.querySelector<HTMLInputElement>("input[name=password]")!.value).toBe("");
});

it("lets in by the token of the address, and takes it out of the address", async () => {
  const calls = serveWith(answers);
  history.replaceState(null, "", "/?token=once7#/");
  render(<App />, host);
  await vi.waitFor(() => expect(text()).toContain("1–2 of 2"));
  expect(calls[0]).toMatchObject({ method: "POST", path: "/api/session", body: { token: "once7" } });
  expect(location.search).toBe("");
});

it("keeps the page where the session ends, and asks to sign in over it", async () => {
  let signedIn = true;
  serveWith((call) => (signedIn ? answers(call) : { status: 401, json: { problem: "Gone.", remedy: null } }));
  await open("#/");
  await vi.waitFor(() => expect(text()).toContain("1–2 of 2"));
  signedIn = false;
  press("n");
  await vi.waitFor(() => expect(host.querySelector("dialog")?.textContent).toContain("Your session has ended"));
  expect(host.querySelectorAll(".case-link")).toHaveLength(2);
});

it("says what verifying the audit trail found", async () => {
  serveWith(answers);
  await open("#/audit");
  await vi.waitFor(() => expect(text()).toContain("Nothing has happened yet"));
  [...host.querySelectorAll("button")].find((button) => button.textContent === "Verify everything")?.click();
  await vi.waitFor(() => expect(text()).toContain("Event 2 was changed."));
});

it("shows nobody but administrators people and the audit trail", async () => {
  const viewer = { ...SESSION, person: { ...PERSON, role: "viewer" } };
  const calls = serveWith((call) => (call.path === "/api/session" ? { status: 200, json: viewer } : answers(call)));
  await open("#/people");
  await vi.waitFor(() => expect(text()).toContain("This page is for administrators"));
  expect(host.querySelector("nav")?.textContent).not.toContain("Audit");
  expect(calls.some(({ path }) => path.startsWith("/api/people"))).toBe(false);
});
