import { afterEach, expect, it, vi } from "vitest";

import { firstFree, nextCase } from "../../src/app/worklist/next";
import { rowOf } from "./rows";
import { serveWith } from "./server";

afterEach(() => vi.unstubAllGlobals());

it("gives nobody a case that somebody has, or that they come from", () => {
  const rows = [
    rowOf("taken", { reader: "bo" }),
    rowOf("done", { state: "approved" }),
    rowOf("here"),
    rowOf("free"),
    rowOf("later"),
  ];
  expect(firstFree(rows, "ada", "here")?.key).toBe("free");
  expect(firstFree(rows.slice(0, 2), "ada")).toBeNull();
});

it("gives nobody their own case to confirm", () => {
  const own = rowOf("own", { state: "awaiting_second", reader: "ada", secondReader: "ada" });
  const asked = rowOf("asked", { state: "awaiting_second", reader: "bo", secondReader: "ada" });
  expect(firstFree([own, asked], "ada")?.key).toBe("asked");
  expect(firstFree([asked], "cy")).toBeNull();
});

it("asks first for what waits for this reader, then for what nobody has, by priority", async () => {
  const calls = serveWith(({ path }) => {
    const cases = path.includes("state=unreviewed") ? [rowOf("a b")] : [];
    return { status: 200, json: { total: cases.length, byState: {}, cases } };
  });
  expect(await nextCase("ada")).toBe("a b");
  expect(calls.map(({ path }) => new URL(path, "http://x").searchParams.get("state"))).toEqual([
    "awaiting_second",
    "unreviewed",
  ]);
  expect(calls.every(({ path }) => path.includes("order=-priority"))).toBe(true);
});
