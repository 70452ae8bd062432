// @vitest-environment happy-dom
import { render } from "preact";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { worklist } from "../../src/api";
import { App } from "../../src/app/App";
import { secondsLeft } from "../../src/app/Idle";
import { EVERYTHING } from "../../src/app/worklist/query";
import { watchTouches } from "../../src/idle";
import { serveWith, type Call } from "./server";

const LIMIT = 1800;
const PERSON = { name: "ada", fullName: "Ada Lovelace", role: "reviewer", seesNames: true };
const SESSION = { person: PERSON, csrf: "c", local: false, version: "0.1.0", idleSeconds: LIMIT };

watchTouches();
let host: HTMLElement;
let signedIn: boolean;

function answers({ path }: Call): { status: number; json: unknown } {
  if (!signedIn) return { status: 401, json: { problem: "You are not signed in.", remedy: null } };
  if (path === "/api/session") return { status: 200, json: SESSION };
  if (path === "/api/filters") {
    return { status: 200, json: { structures: [], models: [], sites: [], readers: [], collections: [] } };
  }
  return { status: 200, json: { total: 0, byState: {}, cases: [] } };
}

const text = () => host.textContent ?? "";
const touch = () => window.dispatchEvent(new KeyboardEvent("keydown", { key: "Shift" }));
const seconds = (count: number) => vi.advanceTimersByTimeAsync(count * 1000);

beforeEach(async () => {
  vi.useFakeTimers();
  touch();
  signedIn = true;
  host = document.body.appendChild(document.createElement("div"));
});

afterEach(() => {
  render(null, host);
  host.remove();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

it("tells the server with every request for how long nobody touched the window", async () => {
  const calls = serveWith(answers);
  await seconds(70.5);
  await worklist(EVERYTHING);
  touch();
  await worklist(EVERYTHING);
  expect(calls.map(({ headers }) => headers["X-Idle-Seconds"])).toEqual(["70", "0"]);
});

it("warns a minute before, and stays where somebody moves", async () => {
  serveWith(answers);
  render(<App />, host);
  await seconds(LIMIT - 62);
  expect(text()).not.toContain("you will be signed out");
  await seconds(4);
  expect(text()).toContain("you will be signed out");
  touch();
  await seconds(1);
  expect(text()).not.toContain("you will be signed out");
  await seconds(LIMIT - 70);
  expect(text()).not.toContain("Your session has ended");
});

it("covers the page when the server has ended the session, and asks for the password", async () => {
  serveWith(answers);
  render(<App />, host);
  await seconds(LIMIT - 20);
  signedIn = false;
  await seconds(25);
  expect(text()).toContain("Your session has ended");
  expect(host.querySelector("dialog.strict input[type=password]")).not.toBeNull();
});

it("goes on where somebody is at work in another window, which the server knows", async () => {
  const calls = serveWith(answers);
  render(<App />, host);
  await seconds(LIMIT + 35);
  expect(text()).not.toContain("Your session has ended");
  const asked = calls.filter(({ path, headers }) => path === "/api/session" && Number(headers["X-Idle-Seconds"]) >= LIMIT);
  expect(asked.length).toBeGreaterThanOrEqual(3);
  expect(asked.length).toBeLessThanOrEqual(4);
});

it("never ends where the server sets no limit, and warns within half of a short one", () => {
  expect(secondsLeft(1e6, null)).toBeNull();
  expect(secondsLeft(1739, LIMIT)).toBeNull();
  expect(secondsLeft(1740, LIMIT)).toBe(60);
  expect(secondsLeft(29, 60)).toBeNull();
  expect(secondsLeft(31, 60)).toBe(29);
  expect(secondsLeft(1801, LIMIT)).toBe(0);
});
